//! Owns `DestinationRule`: what a client's sidecar sends to a service.
//!
//! The client's namespace is asked first, then the service's, then the root one; the first with a rule for
//! the host wins and nothing is merged across namespaces. Within one, an exact host beats the longest
//! wildcard, and of several for one host the oldest with a traffic policy counts.
//!
//! Sources: Istio's pilot/pkg/model/push_context.go (`setDestinationRules`, `destinationRule`) for who sees a rule and
//! which one is found, destination_rule.go beside it (`mergeDestinationRule`) for several of one host, and
//! pilot/pkg/xds/endpoints/mtls_checker.go (`trafficPolicyTLSModeForPort`) for ports. The mesh's
//! `defaultDestinationRuleExportTo` is not heeded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::MeshConfig;
use crate::{
    cluster::{Labels, Selector, objects::Name},
    policy::{
        decision::{Decider, Kind, ObjectKey},
        index::Meta,
    },
};

/// What a client sends.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Plaintext, even to a sidecar.
    Disable,
    /// TLS without a client certificate.
    Simple,
    /// TLS with the client's own certificate.
    Mutual,
    /// Mesh mTLS.
    IstioMutual,
}

impl TlsMode {
    /// The mode as Istio writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        }
    }
}

/// The part of a traffic policy that is about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// `tls.mode`.
    pub tls: Option<TlsMode>,
    /// `portLevelSettings`, by port of the service: `None` for an entry without `tls`.
    pub ports: BTreeMap<u16, Option<TlsMode>>,
}

/// A subset of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Its name.
    pub name: Box<str>,
    /// The pods that are in it.
    pub labels: Labels,
    /// Its own traffic policy.
    pub policy: Option<TrafficPolicy>,
}

/// A `DestinationRule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRule {
    /// Its metadata.
    pub meta: Meta,
    /// The host, as written.
    pub host: Box<str>,
    /// Its traffic policy.
    pub policy: Option<TrafficPolicy>,
    /// Its subsets.
    pub subsets: Box<[Subset]>,
    /// The namespaces that see it; none means all.
    pub export_to: Box<[Box<str>]>,
    /// The clients that it is for, in its own namespace.
    pub workloads: Option<Selector>,
}

impl DestinationRule {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::DestinationRule, name: self.meta.name.clone() }
    }

    /// The host in full: a short name is of the rule's own namespace.
    #[must_use]
    pub fn full_host(&self) -> String {
        if self.host.contains('.') || &*self.host == "*" {
            return self.host.to_string();
        }
        format!("{}.{}.svc.cluster.local", self.host, self.meta.name.namespace)
    }

    /// Whether no other namespace sees it. A rule for some clients is of its own namespace, whatever it says.
    fn is_private(&self) -> bool {
        let own = |to: &str| to == "." || *to == *self.meta.name.namespace;
        self.workloads.is_some() || matches!(&*self.export_to, [only] if own(only))
    }

    fn is_exported_to(&self, namespace: &str) -> bool {
        self.export_to.is_empty()
            || self.export_to.iter().any(|to| match &**to {
                "*" => true,
                "." => *self.meta.name.namespace == *namespace,
                named => named == namespace,
            })
    }
}

/// What a client's sidecar is told to send, and what told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldTls {
    /// The mode.
    pub mode: TlsMode,
    /// What decided it.
    pub decided_by: Decider,
    /// Why another mode is possible, where one is.
    pub doubt: Option<&'static str>,
}

/// Rules by namespace and host.
#[derive(Debug, Default)]
pub(in crate::policy) struct Rules(HashMap<Arc<str>, HashMap<String, Vec<Arc<DestinationRule>>>>);

impl Rules {
    pub(in crate::policy) fn build(objects: impl IntoIterator<Item = Arc<DestinationRule>>) -> Self {
        let mut rules: HashMap<Arc<str>, HashMap<String, Vec<Arc<DestinationRule>>>> = HashMap::new();
        for object in objects {
            rules
                .entry(Arc::clone(&object.meta.name.namespace))
                .or_default()
                .entry(object.full_host())
                .or_default()
                .push(object);
        }
        for same in rules.values_mut().flat_map(HashMap::values_mut) {
            same.sort_by(|a, b| a.meta.order().cmp(&b.meta.order()));
        }
        Self(rules)
    }

    /// Rules for one host in one namespace that are more than one and for the same clients.
    pub(in crate::policy) fn conflicts(&self) -> Vec<(String, Vec<Arc<DestinationRule>>)> {
        let mut found: Vec<_> = self
            .0
            .values()
            .flatten()
            .filter_map(|(host, rules)| {
                let modes = rules.iter().filter(|rule| rule.workloads.is_none() && rule.policy.is_some());
                let rules: Vec<_> = modes.map(Arc::clone).collect();
                (rules.len() > 1).then(|| (host.clone(), rules))
            })
            .collect();
        found.sort_by(|(a, x), (b, y)| {
            (a, x.first().map(|r| &r.meta.name)).cmp(&(b, y.first().map(|r| &r.meta.name)))
        });
        found
    }

    /// The rules that count for a client and a service: those of one host in one namespace. The host is found first:
    /// a rule for other clients hides that of a wider host.
    fn applicable(
        &self,
        mesh: &MeshConfig,
        client_namespace: &str,
        client_labels: &Labels,
        service: &Name,
    ) -> Vec<&Arc<DestinationRule>> {
        let host = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
        let root = &*mesh.root_namespace;
        let of = |namespace: &str, counts: &dyn Fn(&DestinationRule) -> bool| {
            self.0.get(namespace).map_or_else(Vec::new, |hosts| most_specific(hosts, &host, counts))
        };
        // Clients of the root namespace begin with what it keeps to itself: what it exports is for everybody.
        let mut own = of(client_namespace, &|rule| {
            let seen = rule.workloads.is_some() || rule.is_exported_to(client_namespace);
            seen && (client_namespace != root || rule.is_private())
        });
        if !own.is_empty() {
            own.retain(|rule| rule.workloads.as_ref().is_none_or(|clients| clients.matches(client_labels)));
            return own;
        }
        for namespace in [&*service.namespace, root] {
            let mut found = of(namespace, &|rule| !rule.is_private());
            found.retain(|rule| rule.is_exported_to(client_namespace));
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// What the rules tell a client to send to `port` of a service, where they say anything of TLS.
    pub(in crate::policy) fn told(
        &self,
        mesh: &MeshConfig,
        client_namespace: &str,
        client_labels: &Labels,
        service: &Name,
        port: u16,
        server_labels: &Labels,
    ) -> Option<ToldTls> {
        let rules = self.applicable(mesh, client_namespace, client_labels, service);
        let selected = rules.iter().find(|rule| rule.workloads.is_some());
        let deciding = selected.or_else(|| rules.iter().find(|rule| rule.policy.is_some()))?;
        let key = deciding.key();
        let policy = deciding.policy.as_ref();
        let told = policy.and_then(|policy| match (policy.ports.get(&port), policy.tls) {
            (Some(Some(mode)), _) => Some(ToldTls {
                mode: *mode,
                decided_by: key.field(format!("spec.trafficPolicy.portLevelSettings[{port}].tls.mode")),
                doubt: None,
            }),
            (Some(None), Some(mode)) => Some(ToldTls {
                mode,
                decided_by: key.field("spec.trafficPolicy.tls.mode"),
                doubt: Some("the port has settings of its own without tls, which Istio reads in two ways"),
            }),
            (None, Some(mode)) => {
                Some(ToldTls { mode, decided_by: key.field("spec.trafficPolicy.tls.mode"), doubt: None })
            }
            (_, None) => None,
        });
        // Which subset a connection takes is a VirtualService's word; those that hold the server may differ.
        let differs = rules
            .iter()
            .flat_map(|rule| rule.subsets.iter().map(move |subset| (rule, subset)))
            .find_map(|(rule, subset)| {
                let holds = subset.labels.iter().all(|(key, value)| server_labels.value(key) == Some(value));
                let policy = subset.policy.as_ref().filter(|_| holds)?;
                let mode = policy.ports.get(&port).copied().flatten().or(policy.tls)?;
                (told.as_ref().map(|told| told.mode) != Some(mode)).then_some((rule, subset, mode))
            });
        match (told, differs) {
            (Some(told), Some(_)) => Some(ToldTls {
                doubt: Some(
                    "a subset of the rule has a mode of its own, and which subset is used is not visible",
                ),
                ..told
            }),
            (None, Some((rule, subset, mode))) => Some(ToldTls {
                mode,
                decided_by: rule.key().field(format!("spec.subsets[{}].trafficPolicy.tls.mode", subset.name)),
                doubt: Some("whether this subset is used is not visible"),
            }),
            (told, None) => told,
        }
    }
}

/// The rules of the most specific host that has any that `counts`.
fn most_specific<'a>(
    hosts: &'a HashMap<String, Vec<Arc<DestinationRule>>>,
    host: &str,
    counts: impl Fn(&DestinationRule) -> bool,
) -> Vec<&'a Arc<DestinationRule>> {
    let of = |host: &str| -> Vec<&'a Arc<DestinationRule>> {
        hosts.get(host).into_iter().flatten().filter(|rule| counts(rule)).collect()
    };
    let found = of(host);
    if !found.is_empty() {
        return found;
    }
    let mut wildcard = String::with_capacity(host.len() + 2);
    let mut rest = host;
    while let Some((_, below)) = rest.split_once('.') {
        wildcard.clear();
        wildcard.push_str("*.");
        wildcard.push_str(below);
        let found = of(&wildcard);
        if !found.is_empty() {
            return found;
        }
        rest = below;
    }
    of("*")
}
