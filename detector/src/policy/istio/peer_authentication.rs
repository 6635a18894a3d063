//! Owns `PeerAuthentication`: whether a workload's port takes plaintext.
//!
//! Composition follows Istio's `ComposePeerAuthentication`: mesh, then namespace, then workload; each level
//! overrides where it sets a mode; among several of a level the oldest wins, whatever it says.
//!
//! Sources: Istio's pilot/pkg/security/authn/policy_applier.go (`ComposePeerAuthentication`) for servers;
//! pilot/pkg/model/authentication.go (`GetNamespaceMutualTLSMode`) for what clients are told of a namespace, and for
//! the order of age and name.

use std::collections::BTreeMap;

use super::MeshConfig;
use crate::{
    cluster::{Labels, Selector},
    policy::{
        decision::{Decider, Kind, ObjectKey},
        index::{ByNamespace, Meta, Selects},
    },
};

/// A mode of mutual TLS.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Said to be inherited.
    Unset,
    /// Plaintext.
    Disable,
    /// Both.
    Permissive,
    /// mTLS alone.
    Strict,
}

impl Mode {
    /// The mode as Istio writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}

/// A `PeerAuthentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Its metadata.
    pub meta: Meta,
    /// The pods that it selects; `None` where it is for a namespace or the mesh.
    pub selector: Option<Selector>,
    /// `spec.mtls.mode`, where it is set.
    pub mtls: Option<Mode>,
    /// `spec.portLevelMtls`, by port of the container.
    pub ports: BTreeMap<u16, Mode>,
    /// When the namespace should have left PERMISSIVE (`plainsight.dev/permissive-until`), in seconds since 1970.
    pub permissive_until: Option<i64>,
}

impl Selects for PeerAuthentication {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn selector(&self) -> Option<&Selector> {
        self.selector.as_ref()
    }
}

impl PeerAuthentication {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::PeerAuthentication, name: self.meta.name.clone() }
    }

    fn mode(&self) -> Option<Mode> {
        self.mtls.filter(|mode| *mode != Mode::Unset)
    }
}

/// A composed mode and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The mode; never [`Mode::Unset`].
    pub mode: Mode,
    /// What decided it.
    pub decided_by: Decider,
    /// Whether it holds for this one port of the workload.
    pub by_port: bool,
    /// The deadline of PERMISSIVE that the deciding object names, in seconds since 1970.
    pub permissive_until: Option<i64>,
}

impl Composed {
    const DEFAULT: Self = Self {
        mode: Mode::Permissive,
        decided_by: Decider::Default("Istio's default, PERMISSIVE: no PeerAuthentication sets a mode"),
        by_port: false,
        permissive_until: None,
    };

    fn take(&mut self, object: &PeerAuthentication) {
        if let Some(mode) = object.mode() {
            *self = Self {
                mode,
                decided_by: object.key().field("spec.mtls.mode"),
                by_port: false,
                permissive_until: object.permissive_until,
            };
        }
    }
}

/// The mode of a namespace, before any workload has its say: what Istio's clients look at.
pub(in crate::policy) fn of_namespace(
    objects: &ByNamespace<PeerAuthentication>,
    mesh: &MeshConfig,
    namespace: &str,
) -> Composed {
    let mut composed = Composed::DEFAULT;
    for namespace in [&*mesh.root_namespace, namespace] {
        let selected = objects.in_namespace(namespace);
        let oldest = selected.and_then(|all| all.all().iter().find(|object| object.selector.is_none()));
        if let Some(object) = oldest {
            composed.take(object);
        }
    }
    composed
}

/// The mode of a workload, at `port` if one is asked for.
pub(in crate::policy) fn of_workload(
    objects: &ByNamespace<PeerAuthentication>,
    mesh: &MeshConfig,
    namespace: &str,
    labels: &Labels,
    port: Option<u16>,
) -> Composed {
    let mut composed = of_namespace(objects, mesh, namespace);
    // A selector in the root namespace counts for nothing, not even for the pods there (`ComposePeerAuthentication`:
    // "cfg.Namespace != rootNamespace").
    if namespace == &*mesh.root_namespace {
        return composed;
    }
    let selecting = objects.matching(namespace, labels);
    let Some(workload) = selecting.into_iter().find(|object| object.selector.is_some()) else {
        return composed;
    };
    composed.take(workload);
    if let Some(port) = port
        && let Some(mode) = workload.ports.get(&port)
        && *mode != Mode::Unset
    {
        let decided_by = workload.key().field(format!("spec.portLevelMtls[{port}].mode"));
        composed =
            Composed { mode: *mode, decided_by, by_port: true, permissive_until: workload.permissive_until };
    }
    composed
}
