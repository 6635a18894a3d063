//! Owns the objects that sources hand to the store: Kubernetes objects trimmed to what identities and policy
//! need.
//!
//! Strings that many objects share (namespaces, nodes) are `Arc<str>`, and what the pods of one workload share
//! is a [`PodTemplate`] of its own, so that the store can hold one copy of each.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
    sync::Arc,
};

use super::{
    selector::{Labels, Selector},
    workload::{Workload, WorkloadKind},
    yaml::scalar,
};
use crate::policy::{Kind as PolicyKind, ObjectKey, PodMesh, PolicyObject};

/// What a source hands to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pod.
    Pod(Pod),
    /// A service.
    Service(Service),
    /// The addresses behind a service.
    EndpointSlice(EndpointSlice),
    /// A node.
    Node(Node),
    /// A namespace.
    Namespace(Namespace),
    /// A service account.
    ServiceAccount(ServiceAccount),
    /// A replica set or job: the link between a pod and what an operator knows it by.
    Owner(Owner),
    /// Plainsight's own declaration of the sources that a workload expects.
    ExpectedSources(ExpectedSources),
    /// A policy object of a mesh, or an exception of our own.
    Policy(Box<PolicyObject>),
}

/// Names one object of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectRef {
    /// A pod, by uid: its name may already belong to a successor.
    Pod {
        /// The pod's uid.
        uid: Uid,
    },
    /// A service.
    Service(Name),
    /// An endpoint slice.
    EndpointSlice(Name),
    /// A node.
    Node {
        /// The node's name.
        name: Arc<str>,
    },
    /// A namespace.
    Namespace {
        /// The namespace's name.
        name: Arc<str>,
    },
    /// A service account.
    ServiceAccount(Name),
    /// A replica set or job.
    Owner(OwnerKind, Name),
    /// A declaration of expected sources.
    ExpectedSources(Name),
    /// A policy object.
    Policy(ObjectKey),
}

/// The kind of an object of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Pods.
    Pod,
    /// Services.
    Service,
    /// The addresses behind services.
    EndpointSlice,
    /// Nodes.
    Node,
    /// Namespaces.
    Namespace,
    /// Service accounts.
    ServiceAccount,
    /// Replica sets or jobs.
    Owner(OwnerKind),
    /// Declarations of expected sources.
    ExpectedSources,
    /// Policy objects.
    Policy(PolicyKind),
}

/// A namespace and a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Name {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Names a pod for good. What the API server gives is a UUID; any other text stands by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid([u64; 2]);

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let is_uuid = text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if is_uuid {
            let mut halves = [0_u64; 2];
            for (index, digit) in text.chars().filter_map(|digit| digit.to_digit(16)).enumerate() {
                if let Some(half) = halves.get_mut(index / 16) {
                    *half = *half << 4 | u64::from(digit);
                }
            }
            return Self(halves);
        }
        Self([0_u8, 1].map(|half| {
            let mut hasher = DefaultHasher::new();
            (half, text).hash(&mut hasher);
            hasher.finish()
        }))
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// The UUID, as the API server gave it; of any other text, what stands for it.
impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [high, low] = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

/// A pod, as far as identities and policy need it. What it shares with its siblings is reached through it:
/// `pod.labels` is the template's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The pod's uid; that of `namespace/name` where a manifest has none.
    pub uid: Uid,
    /// Namespace and name.
    pub name: Name,
    /// The node it is bound to.
    pub node: Option<Arc<str>>,
    /// Its addresses. Empty once the pod has ended, for its addresses may be another pod's by then.
    pub addresses: Addresses,
    /// What the pods of its workload share.
    pub template: Arc<PodTemplate>,
}

/// What the pods of one workload share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTemplate {
    /// What runs the pod.
    pub workload: Workload,
    /// The service account it runs as.
    pub service_account: Arc<str>,
    /// Whether it shares the node's network: its addresses are the node's then.
    pub host_network: bool,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations, those that meshes heed.
    pub annotations: Labels,
    /// Ports of its containers that have a name, for services that point at one by name.
    pub named_ports: Arc<[(Arc<str>, u16)]>,
    /// What it says of meshes.
    pub proxy: Arc<PodMesh>,
}

/// The addresses of a pod: one of each family at most, as the API server demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The addresses.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let Self { v4, v6 } = *self;
        v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4 == Some(v4),
            IpAddr::V6(v6) => self.v6 == Some(v6),
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    /// The first of each family counts.
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut out = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) => out.v4 = out.v4.or(Some(v4)),
                IpAddr::V6(v6) => out.v6 = out.v6.or(Some(v6)),
            }
        }
        out
    }
}

impl Deref for Pod {
    type Target = PodTemplate;

    fn deref(&self) -> &PodTemplate {
        &self.template
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: Name,
    /// Cluster, external and load balancer addresses.
    pub addresses: Box<[IpAddr]>,
    /// Its TCP ports.
    pub ports: Box<[ServicePort]>,
    /// The pods behind it; `None` for a service whose endpoints somebody else writes.
    pub selector: Option<Selector>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty where it has none.
    pub name: Arc<str>,
    /// The port that clients connect to.
    pub port: u16,
    /// The port of every node that leads here too.
    pub node_port: Option<u16>,
    /// The port on the pods.
    pub target: TargetPort,
    /// The protocol that it says it speaks.
    pub app_protocol: Option<Arc<str>>,
}

/// The port on the pods behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(Arc<str>),
}

/// A part of the addresses behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: Name,
    /// The service that it belongs to.
    pub service: Arc<str>,
    /// The addresses.
    pub addresses: Box<[IpAddr]>,
    /// Ports by the name of the service's port, empty where it has none.
    pub ports: Box<[(Arc<str>, u16)]>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels: meshes are switched on by them.
    pub labels: Labels,
    /// Its annotations, those that meshes heed and our own.
    pub annotations: Labels,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Namespace and name.
    pub name: Name,
}

/// A replica set or job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: OwnerKind,
    /// Namespace and name.
    pub name: Name,
    /// What runs it, where that is not what its own name says: see `Workload::of_pod`.
    pub workload: Option<Workload>,
}

/// The kinds that stand between a pod and its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// A replica set.
    ReplicaSet,
    /// A job.
    Job,
}

impl OwnerKind {
    /// The kind of owner that a workload is, if it may have another above it.
    #[must_use]
    pub fn of(workload: &Workload) -> Option<Self> {
        match workload.kind {
            WorkloadKind::ReplicaSet => Some(Self::ReplicaSet),
            WorkloadKind::Job => Some(Self::Job),
            _ => None,
        }
    }
}

/// `ExpectedSources` of `plainsight.dev/v1alpha1`: who may call the pods that it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedSources {
    /// Namespace and name.
    pub name: Name,
    /// The pods that it speaks of, in its own namespace.
    pub selector: Selector,
    /// The service accounts that may call them.
    pub service_accounts: Box<[Name]>,
}

impl Object {
    /// Names this object.
    #[must_use]
    pub fn to_ref(&self) -> ObjectRef {
        match self {
            Self::Pod(pod) => ObjectRef::Pod { uid: pod.uid },
            Self::Service(service) => ObjectRef::Service(service.name.clone()),
            Self::EndpointSlice(slice) => ObjectRef::EndpointSlice(slice.name.clone()),
            Self::Node(node) => ObjectRef::Node { name: Arc::clone(&node.name) },
            Self::Namespace(namespace) => ObjectRef::Namespace { name: Arc::clone(&namespace.name) },
            Self::ServiceAccount(account) => ObjectRef::ServiceAccount(account.name.clone()),
            Self::Owner(owner) => ObjectRef::Owner(owner.kind, owner.name.clone()),
            Self::ExpectedSources(sources) => ObjectRef::ExpectedSources(sources.name.clone()),
            Self::Policy(object) => ObjectRef::Policy(object.key()),
        }
    }
}

impl EndpointSlice {
    /// The service that it belongs to.
    #[must_use]
    pub fn service_name(&self) -> Name {
        Name { namespace: Arc::clone(&self.name.namespace), name: Arc::clone(&self.service) }
    }
}

impl ExpectedSources {
    /// The manifest of this object with `extra` among its service accounts.
    #[must_use]
    pub fn manifest_with(&self, extra: &Name) -> String {
        let mut accounts: BTreeMap<&Name, ()> = self.service_accounts.iter().map(|name| (name, ())).collect();
        accounts.insert(extra, ());
        let mut out = format!(
            "apiVersion: plainsight.dev/v1alpha1\nkind: ExpectedSources\nmetadata:\n  namespace: {}\n  name: {}\nspec:\n",
            scalar(&self.name.namespace),
            scalar(&self.name.name)
        );
        out.push_str(&self.selector.yaml(2));
        out.push_str("  serviceAccounts:\n");
        for account in accounts.keys() {
            out.push_str(&format!(
                "  - namespace: {}\n    name: {}\n",
                scalar(&account.namespace),
                scalar(&account.name)
            ));
        }
        out
    }
}
