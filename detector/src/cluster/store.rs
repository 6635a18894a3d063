//! Owns the identity store: from an address to the pod, service or node that has it now.
//!
//! Look-ups by address do not allocate and hand out shared pointers, so a flow keeps the pod that it was
//! seen with, whatever becomes of the address. `generation` rises with every change: who holds an answer of
//! an older generation asks again. Sources fill the store by `apply`, `delete` and `reset`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    objects::{
        EndpointSlice, ExpectedSources, Name, Namespace, Node, Object, ObjectRef, Pod, ReplicaSet, Service,
        ServicePort, TargetPort,
    },
    workload::{Workload, WorkloadKind},
};
use crate::policy::{Kind, ObjectKey, PolicyObject, PolicySet};

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A pod with a network of its own.
    Pod(Arc<Pod>),
    /// A service.
    Service(Arc<Service>),
    /// A node, and with it every pod that shares its network. The name is empty where it is not known.
    Node(Arc<str>),
}

/// A pod behind a port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The port on it.
    pub port: u16,
}

/// How many of each the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Pods.
    pub pods: usize,
    /// Services.
    pub services: usize,
    /// Nodes.
    pub nodes: usize,
    /// Declarations of expected sources.
    pub expected_sources: usize,
}

/// The identity store.
#[derive(Debug, Default)]
pub struct Store {
    generation: u64,
    pods: HashMap<Arc<str>, Arc<Pod>>,
    pod_by_address: HashMap<IpAddr, Arc<Pod>>,
    services: HashMap<Name, Arc<Service>>,
    service_by_address: HashMap<IpAddr, Arc<Service>>,
    slices: HashMap<Name, EndpointSlice>,
    nodes: HashMap<Arc<str>, Node>,
    node_by_address: HashMap<IpAddr, Arc<str>>,
    namespaces: HashMap<Arc<str>, Namespace>,
    service_accounts: HashSet<Name>,
    replica_sets: HashMap<Name, Workload>,
    expected_sources: HashMap<Name, Arc<ExpectedSources>>,
    policy: PolicySet,
    local_node: Arc<str>,
    local_addresses: Box<[IpAddr]>,
    /// A source is there that has not told yet what it knows.
    awaited: bool,
}

impl Store {
    /// Takes in an object, in place of an older state of it.
    pub fn apply(&mut self, object: Object) {
        self.generation += 1;
        match object {
            Object::Pod(pod) => self.apply_pod(pod),
            Object::Service(service) => self.apply_service(service),
            Object::EndpointSlice(slice) => {
                self.slices.insert(slice.name.clone(), slice);
            }
            Object::Node(node) => {
                self.delete_node(&Arc::clone(&node.name));
                for address in &node.addresses {
                    self.node_by_address.insert(*address, Arc::clone(&node.name));
                }
                self.nodes.insert(Arc::clone(&node.name), node);
            }
            Object::Namespace(namespace) => {
                self.namespaces.insert(Arc::clone(&namespace.name), namespace);
            }
            Object::ServiceAccount(account) => {
                self.service_accounts.insert(account.name);
            }
            Object::ReplicaSet(ReplicaSet { name, workload }) => {
                self.replica_sets.insert(name, workload);
            }
            Object::ExpectedSources(sources) => {
                self.policy.apply(PolicyObject::ExpectedSources(sources.clone()));
                self.expected_sources.insert(sources.name.clone(), Arc::new(sources));
            }
            Object::Policy(object) => self.policy.apply(*object),
        }
    }

    /// Forgets an object.
    pub fn delete(&mut self, object: &ObjectRef) {
        self.generation += 1;
        match object {
            ObjectRef::Pod { uid } => self.delete_pod(uid),
            ObjectRef::Service(name) => self.delete_service(name),
            ObjectRef::EndpointSlice(name) => drop(self.slices.remove(name)),
            ObjectRef::Node { name } => self.delete_node(name),
            ObjectRef::Namespace { name } => drop(self.namespaces.remove(name)),
            ObjectRef::ServiceAccount(name) => {
                self.service_accounts.remove(name);
            }
            ObjectRef::ReplicaSet(name) => drop(self.replica_sets.remove(name)),
            ObjectRef::ExpectedSources(name) => {
                let kind = Kind::ExpectedSources;
                self.policy.delete(&ObjectKey { kind, name: name.clone() });
                drop(self.expected_sources.remove(name));
            }
            ObjectRef::Policy(key) => self.policy.delete(key),
        }
    }

    /// Puts `objects` in place of everything that sources had applied.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = Object>) {
        let fresh = Self {
            generation: self.generation + 1,
            local_node: Arc::clone(&self.local_node),
            local_addresses: std::mem::take(&mut self.local_addresses),
            ..Self::default()
        };
        *self = fresh;
        for object in objects {
            self.apply(object);
        }
    }

    /// Says that a source will `reset` this store soon: until then an address that is not known may be yet.
    pub fn await_source(&mut self) {
        self.awaited = true;
    }

    /// Says which addresses the detector's own node has: on them the kubelet's probes leave, and host
    /// network pods listen.
    pub fn set_local_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses: Box<[IpAddr]> = addresses.into_iter().collect();
        if addresses != self.local_addresses {
            self.generation += 1;
            self.local_addresses = addresses;
        }
    }

    /// Says what the detector's own node is called.
    pub fn set_local_node(&mut self, name: &str) {
        self.local_node = name.into();
    }

    /// Who has `address` now.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Holder> {
        if let Some(pod) = self.pod_by_address.get(&address) {
            return Some(Holder::Pod(Arc::clone(pod)));
        }
        if let Some(service) = self.service_by_address.get(&address) {
            return Some(Holder::Service(Arc::clone(service)));
        }
        if let Some(node) = self.node_by_address.get(&address) {
            return Some(Holder::Node(Arc::clone(node)));
        }
        self.local_addresses.contains(&address).then(|| Holder::Node(Arc::clone(&self.local_node)))
    }

    /// The pods behind `port` of a service, in a stable order.
    #[must_use]
    pub fn backends(&self, service: &Service, port: u16) -> Vec<Backend> {
        let Some(service_port) = service.ports.iter().find(|candidate| candidate.port == port) else {
            return Vec::new();
        };
        let mut backends = self.backends_by_slices(service, service_port);
        if backends.is_empty() {
            backends = self.backends_by_selector(service, service_port);
        }
        backends.sort_by(|a, b| (&a.pod.name, a.port).cmp(&(&b.pod.name, b.port)));
        backends.dedup_by(|a, b| a.pod.uid == b.pod.uid && a.port == b.port);
        backends
    }

    /// The declarations of expected sources in `namespace`, by name.
    #[must_use]
    pub fn expected_sources(&self, namespace: &str) -> Vec<Arc<ExpectedSources>> {
        let mut found: Vec<_> = self
            .expected_sources
            .values()
            .filter(|sources| sources.name.namespace.as_ref() == namespace)
            .map(Arc::clone)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Service accounts that a declaration names and the store does not know, where it knows any of that
    /// namespace: as a rule a slip of the pen.
    #[must_use]
    pub fn unknown_expected_accounts(&self) -> Vec<(Name, Name)> {
        let known: HashSet<&str> =
            self.service_accounts.iter().map(|account| account.namespace.as_ref()).collect();
        let mut unknown: Vec<(Name, Name)> = self
            .expected_sources
            .values()
            .flat_map(|sources| sources.service_accounts.iter().map(|account| (&sources.name, account)))
            .filter(|(_, account)| known.contains(account.namespace.as_ref()))
            .filter(|(_, account)| !self.service_accounts.contains(*account))
            .map(|(sources, account)| (sources.clone(), account.clone()))
            .collect();
        unknown.sort();
        unknown
    }

    /// The declared policy.
    #[must_use]
    pub fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// Rises with every change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether no source has told or will tell of any pod: then an unknown address means nothing.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.pods.is_empty() && !self.awaited
    }

    /// How many of each the store holds.
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            pods: self.pods.len(),
            services: self.services.len(),
            nodes: self.nodes.len(),
            expected_sources: self.expected_sources.len(),
        }
    }

    fn apply_pod(&mut self, mut pod: Pod) {
        self.delete_pod(&Arc::clone(&pod.uid));
        if pod.workload.kind == WorkloadKind::ReplicaSet {
            let set =
                Name { namespace: Arc::clone(&pod.name.namespace), name: Arc::clone(&pod.workload.name) };
            if let Some(workload) = self.replica_sets.get(&set) {
                pod.workload = workload.clone();
            }
        }
        let pod = Arc::new(pod);
        for address in &pod.addresses {
            if pod.host_network {
                let node = pod.node.as_ref().unwrap_or(&pod.name.name);
                self.node_by_address.entry(*address).or_insert_with(|| Arc::clone(node));
            } else {
                self.pod_by_address.insert(*address, Arc::clone(&pod));
            }
        }
        self.pods.insert(Arc::clone(&pod.uid), pod);
    }

    fn delete_pod(&mut self, uid: &Arc<str>) {
        let Some(pod) = self.pods.remove(uid) else { return };
        for address in &pod.addresses {
            // The address may have passed on to a successor.
            if self.pod_by_address.get(address).is_some_and(|holder| holder.uid == pod.uid) {
                self.pod_by_address.remove(address);
            }
        }
    }

    fn apply_service(&mut self, service: Service) {
        self.delete_service(&service.name);
        let service = Arc::new(service);
        for address in &service.addresses {
            self.service_by_address.insert(*address, Arc::clone(&service));
        }
        self.services.insert(service.name.clone(), service);
    }

    fn delete_service(&mut self, name: &Name) {
        let Some(service) = self.services.remove(name) else { return };
        for address in &service.addresses {
            if self.service_by_address.get(address).is_some_and(|holder| holder.name == service.name) {
                self.service_by_address.remove(address);
            }
        }
    }

    fn delete_node(&mut self, name: &Arc<str>) {
        let Some(node) = self.nodes.remove(name) else { return };
        for address in &node.addresses {
            if self.node_by_address.get(address) == Some(&node.name) {
                self.node_by_address.remove(address);
            }
        }
    }

    fn backends_by_slices(&self, service: &Service, port: &ServicePort) -> Vec<Backend> {
        let mut backends = Vec::new();
        for slice in self.slices.values() {
            if slice.service != service.name.name || slice.name.namespace != service.name.namespace {
                continue;
            }
            let Some((_, target)) = slice.ports.iter().find(|(name, _)| *name == port.name) else { continue };
            backends.extend(
                slice
                    .addresses
                    .iter()
                    .filter_map(|address| self.pod_by_address.get(address))
                    .map(|pod| Backend { pod: Arc::clone(pod), port: *target }),
            );
        }
        backends
    }

    /// What the endpoint controller would write, for manifests that come without endpoint slices.
    fn backends_by_selector(&self, service: &Service, port: &ServicePort) -> Vec<Backend> {
        let Some(selector) = &service.selector else { return Vec::new() };
        self.pods
            .values()
            .filter(|pod| pod.name.namespace == service.name.namespace && !pod.addresses.is_empty())
            .filter(|pod| !pod.host_network && selector.matches(&pod.labels))
            .filter_map(|pod| {
                let port = match &port.target {
                    TargetPort::Number(number) => *number,
                    TargetPort::Name(name) => pod.named_ports.iter().find(|(known, _)| known == name)?.1,
                };
                Some(Backend { pod: Arc::clone(pod), port })
            })
            .collect()
    }
}

/// The store as tasks share it. Locks are held for look-ups only, never over an await.
#[derive(Clone, Debug, Default)]
pub struct SharedStore(Arc<RwLock<Store>>);

impl SharedStore {
    /// The store, to read.
    pub fn read(&self) -> RwLockReadGuard<'_, Store> {
        // A panic while writing is a bug; the store is still better than none.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, to change.
    pub fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
