//! Owns the objects that sources hand to the store: Kubernetes objects trimmed to what identities and policy
//! need.
//!
//! Strings that many objects share (namespaces, service accounts, workloads) are `Arc<str>`, so that the store
//! can hold one copy of each.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    selector::{Labels, Selector},
    workload::Workload,
};
use crate::policy::{ObjectKey, PodMesh, PolicyObject};

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
    /// A replica set: the link between a pod and its deployment.
    ReplicaSet(ReplicaSet),
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
        uid: Arc<str>,
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
    /// A replica set.
    ReplicaSet(Name),
    /// A declaration of expected sources.
    ExpectedSources(Name),
    /// A policy object.
    Policy(ObjectKey),
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

/// A pod, as far as identities and policy need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The pod's uid; `namespace/name` where a manifest has none.
    pub uid: Arc<str>,
    /// Namespace and name.
    pub name: Name,
    /// What runs the pod.
    pub workload: Workload,
    /// The service account it runs as.
    pub service_account: Arc<str>,
    /// The node it is bound to.
    pub node: Option<Arc<str>>,
    /// Whether it shares the node's network: its addresses are the node's then.
    pub host_network: bool,
    /// Its addresses. Empty once the pod has ended, for its addresses may be another pod's by then.
    pub addresses: Box<[IpAddr]>,
    /// Its labels.
    pub labels: Labels,
    /// Ports of its containers that have a name, for services that point at one by name.
    pub named_ports: Box<[(Arc<str>, u16)]>,
    /// Its annotations, those that policy heeds.
    pub annotations: Labels,
    /// What it says of meshes.
    pub proxy: Arc<PodMesh>,
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

/// A replica set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Namespace and name.
    pub name: Name,
    /// What runs it: a deployment, as a rule, or itself.
    pub workload: Workload,
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
            Self::Pod(pod) => ObjectRef::Pod { uid: Arc::clone(&pod.uid) },
            Self::Service(service) => ObjectRef::Service(service.name.clone()),
            Self::EndpointSlice(slice) => ObjectRef::EndpointSlice(slice.name.clone()),
            Self::Node(node) => ObjectRef::Node { name: Arc::clone(&node.name) },
            Self::Namespace(namespace) => ObjectRef::Namespace { name: Arc::clone(&namespace.name) },
            Self::ServiceAccount(account) => ObjectRef::ServiceAccount(account.name.clone()),
            Self::ReplicaSet(set) => ObjectRef::ReplicaSet(set.name.clone()),
            Self::ExpectedSources(sources) => ObjectRef::ExpectedSources(sources.name.clone()),
            Self::Policy(object) => ObjectRef::Policy(object.key()),
        }
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
            self.name.namespace, self.name.name
        );
        out.push_str(&self.selector.yaml(2));
        out.push_str("  serviceAccounts:\n");
        for account in accounts.keys() {
            out.push_str(&format!("  - namespace: {}\n    name: {}\n", account.namespace, account.name));
        }
        out
    }
}
