//! Owns the declared policy: all objects, and the index by which an edge is judged.
//!
//! Objects come and go by `apply` and `delete`; the index is made at the first question after a change, so
//! that a start with ten thousand objects makes it once.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use super::{
    decision::{Kind, ObjectKey},
    index::{ByNamespace, Meta},
    istio::{self, MeshConfig, destination_rule},
    linkerd::{self, LinkerdConfig},
    own::TrafficException,
};
use crate::cluster::{
    Labels,
    objects::{ExpectedSources, Name},
};

/// A policy object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyObject {
    /// Istio's `PeerAuthentication`.
    PeerAuthentication(istio::PeerAuthentication),
    /// Istio's `AuthorizationPolicy`.
    AuthorizationPolicy(istio::AuthorizationPolicy),
    /// Istio's `DestinationRule`.
    DestinationRule(istio::DestinationRule),
    /// Linkerd's `Server`.
    Server(linkerd::Server),
    /// Linkerd's `ServerAuthorization`.
    ServerAuthorization(linkerd::ServerAuthorization),
    /// Linkerd's `AuthorizationPolicy`.
    LinkerdAuthorizationPolicy(linkerd::AuthorizationPolicy),
    /// Linkerd's `MeshTLSAuthentication`.
    MeshTlsAuthentication(linkerd::MeshTlsAuthentication),
    /// Linkerd's `NetworkAuthentication`.
    NetworkAuthentication(linkerd::NetworkAuthentication),
    /// Our `TrafficException`.
    TrafficException(TrafficException),
    /// Our `ExpectedSources`.
    ExpectedSources(ExpectedSources),
    /// Istio's mesh configuration, by its `ConfigMap`.
    IstioConfig(Name, MeshConfig),
    /// Linkerd's values, by their `ConfigMap`.
    LinkerdConfig(Name, LinkerdConfig),
}

impl PolicyObject {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let key = |kind, meta: &Meta| ObjectKey { kind, name: meta.name.clone() };
        match self {
            Self::PeerAuthentication(object) => object.key(),
            Self::AuthorizationPolicy(object) => object.key(),
            Self::DestinationRule(object) => object.key(),
            Self::Server(object) => object.key(),
            Self::ServerAuthorization(object) => object.key(),
            Self::LinkerdAuthorizationPolicy(object) => object.key(),
            Self::MeshTlsAuthentication(object) => key(Kind::MeshTlsAuthentication, &object.meta),
            Self::NetworkAuthentication(object) => key(Kind::NetworkAuthentication, &object.meta),
            Self::TrafficException(object) => object.key(),
            Self::ExpectedSources(object) => {
                ObjectKey { kind: Kind::ExpectedSources, name: object.name.clone() }
            }
            Self::IstioConfig(name, _) | Self::LinkerdConfig(name, _) => {
                ObjectKey { kind: Kind::ConfigMap, name: name.clone() }
            }
        }
    }

    /// Paths of its fields that we do not know.
    #[must_use]
    pub fn unknown_fields(&self) -> &[Box<str>] {
        match self {
            Self::PeerAuthentication(object) => &object.meta.unknown,
            Self::AuthorizationPolicy(object) => &object.meta.unknown,
            Self::DestinationRule(object) => &object.meta.unknown,
            Self::Server(object) => &object.meta.unknown,
            Self::ServerAuthorization(object) => &object.meta.unknown,
            Self::LinkerdAuthorizationPolicy(object) => &object.meta.unknown,
            Self::MeshTlsAuthentication(object) => &object.meta.unknown,
            Self::NetworkAuthentication(object) => &object.meta.unknown,
            Self::TrafficException(object) => &object.meta.unknown,
            Self::ExpectedSources(_) | Self::IstioConfig(..) | Self::LinkerdConfig(..) => &[],
        }
    }
}

/// All declared policy.
#[derive(Debug, Default)]
pub struct PolicySet {
    objects: HashMap<ObjectKey, PolicyObject>,
    index: OnceLock<Index>,
}

/// Objects by how they are asked for.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) mesh: MeshConfig,
    pub(super) linkerd: LinkerdConfig,
    pub(super) peer_authentications: ByNamespace<istio::PeerAuthentication>,
    pub(super) authorization_policies: ByNamespace<istio::AuthorizationPolicy>,
    pub(super) destination_rules: destination_rule::Rules,
    pub(super) servers: ByNamespace<linkerd::Server>,
    pub(super) server_authorizations: HashMap<Arc<str>, Vec<linkerd::ServerAuthorization>>,
    pub(super) linkerd_policies: HashMap<Arc<str>, Vec<linkerd::AuthorizationPolicy>>,
    mesh_tls: HashMap<Name, linkerd::MeshTlsAuthentication>,
    networks: HashMap<Name, linkerd::NetworkAuthentication>,
    pub(super) exceptions: ByNamespace<TrafficException>,
    pub(super) expected_sources: HashMap<Arc<str>, Vec<Arc<ExpectedSources>>>,
}

impl PolicySet {
    /// Takes in an object, in place of an older state of it.
    /// Says whether that changed anything.
    pub fn apply(&mut self, object: PolicyObject) -> bool {
        let key = object.key();
        if self.objects.get(&key) == Some(&object) {
            return false;
        }
        self.objects.insert(key, object);
        self.index = OnceLock::new();
        true
    }

    /// Forgets an object.
    /// Says whether it was there.
    pub fn delete(&mut self, key: &ObjectKey) -> bool {
        let known = self.objects.remove(key).is_some();
        if known {
            self.index = OnceLock::new();
        }
        known
    }

    /// Names of the objects of a kind.
    pub fn keys(&self, kind: Kind) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys().filter(move |key| key.kind == kind)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects, in a stable order.
    #[must_use]
    pub fn objects(&self) -> Vec<&PolicyObject> {
        let mut all: Vec<_> = self.objects.iter().collect();
        all.sort_by_key(|entry| entry.0);
        all.into_iter().map(|(_, object)| object).collect()
    }

    /// An object.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<&PolicyObject> {
        self.objects.get(key)
    }

    /// Istio's mesh configuration.
    #[must_use]
    pub fn mesh_config(&self) -> &MeshConfig {
        &self.index().mesh
    }

    /// Linkerd's values.
    #[must_use]
    pub fn linkerd_config(&self) -> &LinkerdConfig {
        &self.index().linkerd
    }

    pub(super) fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::build(self.objects()))
    }
}

impl FromIterator<PolicyObject> for PolicySet {
    fn from_iter<I: IntoIterator<Item = PolicyObject>>(objects: I) -> Self {
        let mut set = Self::default();
        for object in objects {
            set.apply(object);
        }
        set
    }
}

impl Index {
    /// The index of `objects`, which come in a stable order.
    fn build(objects: Vec<&PolicyObject>) -> Self {
        let mut index = Self::default();
        let (mut peers, mut policies, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        let (mut servers, mut exceptions) = (Vec::new(), Vec::new());
        for object in objects {
            match object.clone() {
                PolicyObject::PeerAuthentication(object) => peers.push(Arc::new(object)),
                PolicyObject::AuthorizationPolicy(object) => policies.push(Arc::new(object)),
                PolicyObject::DestinationRule(object) => rules.push(Arc::new(object)),
                PolicyObject::Server(object) => servers.push(Arc::new(object)),
                PolicyObject::ServerAuthorization(object) => {
                    let namespace = Arc::clone(&object.meta.name.namespace);
                    index.server_authorizations.entry(namespace).or_default().push(object);
                }
                PolicyObject::LinkerdAuthorizationPolicy(object) => {
                    let namespace = Arc::clone(&object.meta.name.namespace);
                    index.linkerd_policies.entry(namespace).or_default().push(object);
                }
                PolicyObject::MeshTlsAuthentication(object) => {
                    index.mesh_tls.insert(object.meta.name.clone(), object);
                }
                PolicyObject::NetworkAuthentication(object) => {
                    index.networks.insert(object.meta.name.clone(), object);
                }
                PolicyObject::TrafficException(object) => exceptions.push(Arc::new(object)),
                PolicyObject::ExpectedSources(object) => {
                    let namespace = Arc::clone(&object.name.namespace);
                    index.expected_sources.entry(namespace).or_default().push(Arc::new(object));
                }
                // With revisions there are several; the one without a revision in its name comes first.
                PolicyObject::IstioConfig(name, config) => {
                    if *name.name == *"istio" || index.mesh == MeshConfig::default() {
                        index.mesh = config;
                    }
                }
                PolicyObject::LinkerdConfig(_, config) => index.linkerd = config,
            }
        }
        index.peer_authentications = ByNamespace::build(peers);
        index.authorization_policies = ByNamespace::build(policies);
        index.destination_rules = destination_rule::Rules::build(rules);
        index.servers = ByNamespace::build(servers);
        index.exceptions = ByNamespace::build(exceptions);
        index
    }

    /// The policies of Istio that apply to a pod: those of the root namespace, then those of its own.
    pub(super) fn istio_policies(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> Vec<&istio::AuthorizationPolicy> {
        let root = &*self.mesh.root_namespace;
        let mut found = self.authorization_policies.matching(root, labels);
        if namespace != root {
            found.extend(self.authorization_policies.matching(namespace, labels));
        }
        // One with targets binds gateways and waypoints alone.
        found.into_iter().map(|policy| &**policy).filter(|policy| policy.target_refs.is_empty()).collect()
    }

    /// Whether policies with targets may bind a gateway or a waypoint of this namespace.
    pub(super) fn has_targeted(&self, namespace: &str, labels: &Labels) -> bool {
        [&*self.mesh.root_namespace, namespace].into_iter().any(|namespace| {
            let found = self.authorization_policies.matching(namespace, labels);
            found.into_iter().any(|policy| !policy.target_refs.is_empty())
        })
    }

    /// The server of Linkerd that a port of a pod has: the oldest, then the first by name.
    pub(super) fn server(
        &self,
        namespace: &str,
        labels: &Labels,
        port: u16,
        named: &[(Arc<str>, u16)],
    ) -> Option<&linkerd::Server> {
        let found = self.servers.matching(namespace, labels);
        found.into_iter().map(|server| &**server).find(|server| server.is_for(port, named))
    }

    /// The ports, by number, of pods with these labels that have a server.
    pub(super) fn server_ports<'a>(
        &'a self,
        namespace: &str,
        labels: &Labels,
    ) -> impl Iterator<Item = u16> + use<'a> {
        let found = self.servers.matching(namespace, labels);
        found.into_iter().filter_map(|server| match server.port {
            linkerd::Port::Number(number) if server.pods.is_some() => Some(number),
            _ => None,
        })
    }

    /// What speaks of a server.
    pub(super) fn speaking<'a>(
        &'a self,
        server: &'a linkerd::Server,
    ) -> linkerd::authorization::Speaking<'a> {
        let namespace = &server.meta.name.namespace;
        let all = self.server_authorizations.get(namespace).into_iter().flatten();
        let policies = self.linkerd_policies.get(namespace).into_iter().flatten();
        linkerd::authorization::Speaking {
            server,
            authorizations: all.filter(|object| object.is_for(server)).collect(),
            policies: policies
                .filter(|policy| match &policy.target {
                    linkerd::Target::Server(name) => *name == server.meta.name.name,
                    // A route belongs to some server of the namespace; which one is not known here.
                    linkerd::Target::Namespace | linkerd::Target::Route(_) => true,
                    linkerd::Target::Other(_) => false,
                })
                .collect(),
        }
    }
}

impl linkerd::authorization::Authentications for Index {
    fn mesh_tls(&self, name: &Name) -> Option<&linkerd::MeshTlsAuthentication> {
        self.mesh_tls.get(name)
    }

    fn network(&self, name: &Name) -> Option<&linkerd::NetworkAuthentication> {
        self.networks.get(name)
    }
}
