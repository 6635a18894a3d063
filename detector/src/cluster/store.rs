//! Owns the identity store: from an address to the pod, service or node that has it now.
//!
//! Look-ups by address do not allocate and hand out shared pointers, so a flow keeps the pod that it was
//! seen with, whatever becomes of the address. `generation` rises with every change: who holds an answer of
//! an older generation asks again. Sources fill the store by `apply`, `delete`, `retain` and `reset`.

mod pods;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use self::pods::Pods;
pub use self::seen::Seen;
use super::objects::{
    EndpointSlice, ExpectedSources, Kind, Name, Namespace, Node, Object, ObjectRef, Owner, Pod, Service,
    ServicePort, TargetPort, Uid,
};
use crate::policy::{Kind as PolicyKind, ObjectKey, PolicyObject, PolicySet, dialled_port};

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

/// Which addresses are behind which of the node's pod interfaces, as the kernel routes and switches.
#[derive(Debug, Default)]
struct Links {
    of: HashMap<IpAddr, u32>,
    behind: BTreeMap<u32, BTreeSet<IpAddr>>,
}

/// A source address that is another pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoof {
    /// The pod whose address it is.
    pub owner: Arc<Pod>,
    /// The pod whose interface it came from.
    pub sender: Arc<Pod>,
}

/// The identity store.
#[derive(Debug, Default)]
pub struct Store {
    generation: u64,
    pods: Pods,
    services: HashMap<Name, Arc<Service>>,
    services_by_namespace: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    service_by_address: HashMap<IpAddr, Arc<Service>>,
    service_by_node_port: HashMap<u16, Arc<Service>>,
    slices: HashMap<Name, Arc<EndpointSlice>>,
    slices_by_service: HashMap<Name, Vec<Arc<EndpointSlice>>>,
    nodes: HashMap<Arc<str>, Node>,
    node_by_address: HashMap<IpAddr, Arc<str>>,
    namespaces: HashMap<Arc<str>, Namespace>,
    service_accounts: HashSet<Name>,
    expected_sources: HashMap<Name, Arc<ExpectedSources>>,
    policy: PolicySet,
    /// The generation of the last change of policy.
    policy_generation: u64,
    local_node: Arc<str>,
    local_addresses: Box<[IpAddr]>,
    links: Links,
    /// A source is there that has not told yet what it knows.
    awaited: bool,
}

impl Store {
    /// Takes in an object, in place of an older state of it.
    pub fn apply(&mut self, object: Object) {
        let policy = matches!(object, Object::Policy(_) | Object::ExpectedSources(_));
        let changed = match object {
            Object::Pod(pod) => self.apply_pod(pod),
            Object::Service(service) => self.apply_service(service),
            Object::EndpointSlice(slice) => self.apply_slice(slice),
            Object::Node(node) => self.apply_node(node),
            Object::Namespace(namespace) => {
                let name = Arc::clone(&namespace.name);
                self.namespaces.insert(name, namespace.clone()) != Some(namespace)
            }
            Object::ServiceAccount(account) => self.service_accounts.insert(account.name),
            Object::Owner(Owner { kind, name, workload }) => self.pods.apply_owner(kind, name, workload),
            Object::ExpectedSources(sources) => {
                let sources = Arc::new(sources);
                self.policy.apply(PolicyObject::ExpectedSources(ExpectedSources::clone(&sources)));
                self.expected_sources.insert(sources.name.clone(), Arc::clone(&sources)) != Some(sources)
            }
            Object::Policy(object) => self.policy.apply(*object),
        };
        self.changed(changed, policy);
    }

    /// Forgets an object.
    pub fn delete(&mut self, object: &ObjectRef) {
        let policy = matches!(object, ObjectRef::Policy(_) | ObjectRef::ExpectedSources(_));
        let changed = match object {
            ObjectRef::Pod { uid } => self.pods.delete(*uid),
            ObjectRef::Service(name) => self.delete_service(name),
            ObjectRef::EndpointSlice(name) => self.delete_slice(name),
            ObjectRef::Node { name } => self.delete_node(name),
            ObjectRef::Namespace { name } => self.namespaces.remove(name).is_some(),
            ObjectRef::ServiceAccount(name) => self.service_accounts.remove(name),
            ObjectRef::Owner(kind, name) => {
                self.pods.delete_owner(*kind, name);
                false
            }
            ObjectRef::ExpectedSources(name) => {
                let kind = PolicyKind::ExpectedSources;
                self.policy.delete(&ObjectKey { kind, name: name.clone() });
                self.expected_sources.remove(name).is_some()
            }
            ObjectRef::Policy(key) => self.policy.delete(key),
        };
        self.changed(changed, policy);
    }

    fn changed(&mut self, changed: bool, policy: bool) {
        self.generation += u64::from(changed);
        if changed && policy {
            self.policy_generation = self.generation;
        }
    }

    /// Forgets the objects of `kind` that a list has not shown.
    pub fn retain(&mut self, kind: Kind, seen: &Seen) {
        // Only what is gone is collected: references to a large cluster's pods would take megabytes.
        let unseen = |object: &ObjectRef| !seen.contains(object);
        let gone: Vec<ObjectRef> = match kind {
            Kind::Pod => self.pods.iter().map(|pod| ObjectRef::Pod { uid: pod.uid }).filter(unseen).collect(),
            Kind::Service => self.services.keys().cloned().map(ObjectRef::Service).filter(unseen).collect(),
            Kind::EndpointSlice => {
                self.slices.keys().cloned().map(ObjectRef::EndpointSlice).filter(unseen).collect()
            }
            Kind::Node => {
                let names = self.nodes.keys().map(|name| ObjectRef::Node { name: Arc::clone(name) });
                names.filter(unseen).collect()
            }
            Kind::Namespace => {
                let names =
                    self.namespaces.keys().map(|name| ObjectRef::Namespace { name: Arc::clone(name) });
                names.filter(unseen).collect()
            }
            Kind::ServiceAccount => {
                self.service_accounts.iter().cloned().map(ObjectRef::ServiceAccount).filter(unseen).collect()
            }
            Kind::Owner(kind) => self
                .pods
                .owners()
                .filter(|(owner, _)| *owner == kind)
                .map(|(kind, name)| ObjectRef::Owner(*kind, name.clone()))
                .filter(unseen)
                .collect(),
            Kind::ExpectedSources => {
                self.expected_sources.keys().cloned().map(ObjectRef::ExpectedSources).filter(unseen).collect()
            }
            Kind::Policy(kind) => {
                self.policy.keys(kind).cloned().map(ObjectRef::Policy).filter(unseen).collect()
            }
        };
        for object in &gone {
            self.delete(object);
        }
    }

    /// Puts `objects` in place of everything that sources had applied.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = Object>) {
        let mut fresh = Self::default();
        for object in objects {
            fresh.apply(object);
        }
        self.replace(fresh);
    }

    /// Puts what sources have applied to `fresh` in place of what they had applied to this store.
    pub fn replace(&mut self, fresh: Self) {
        *self = Self {
            generation: self.generation + 1 + fresh.generation,
            policy_generation: self.generation + 1 + fresh.generation,
            local_node: Arc::clone(&self.local_node),
            local_addresses: std::mem::take(&mut self.local_addresses),
            links: std::mem::take(&mut self.links),
            ..fresh
        };
    }

    /// Says that a source will fill this store: until then an address that is not known may be yet.
    pub fn await_source(&mut self) {
        self.awaited = true;
    }

    /// Says that no source will tell of pods, as when it may not read them.
    pub fn give_up_source(&mut self) {
        self.awaited = false;
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

    /// Says which addresses are behind each of the node's pod interfaces.
    pub fn set_links(&mut self, behind: BTreeMap<u32, BTreeSet<IpAddr>>) {
        let mut of = HashMap::new();
        for (link, addresses) in &behind {
            of.extend(addresses.iter().map(|address| (*address, *link)));
        }
        self.links = Links { of, behind };
    }

    /// Whose address it is, and whose interface it came from, where that is another pod's.
    ///
    /// Nothing is said on a doubt: the kernel must lead the address to another interface, and both pods must
    /// be known. A pod that has just come has no routes yet, and one may have several interfaces.
    #[must_use]
    pub fn spoof(&self, address: IpAddr, link: u32) -> Option<Spoof> {
        let home = *self.links.of.get(&address)?;
        let here = self.links.behind.get(&link)?;
        if home == link || here.contains(&address) {
            return None;
        }
        let owner = self.pods.at(address)?;
        let mut senders = here.iter().filter_map(|address| self.pods.at(*address));
        let sender = senders.next()?;
        (sender.uid != owner.uid && senders.all(|other| other.uid == sender.uid))
            .then(|| Spoof { owner: Arc::clone(owner), sender: Arc::clone(sender) })
    }

    /// What the detector's own node is called.
    #[must_use]
    pub fn local_node(&self) -> &str {
        &self.local_node
    }

    /// Who has `address` now.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Holder> {
        if let Some(pod) = self.pods.at(address) {
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

    /// Who is dialled at `address` and `port`: also the service whose port that is on every node.
    #[must_use]
    pub fn lookup_server(&self, address: IpAddr, port: u16) -> Option<Holder> {
        let holder = self.lookup(address)?;
        match (&holder, self.service_by_node_port.get(&port)) {
            (Holder::Node(_), Some(service)) => Some(Holder::Service(Arc::clone(service))),
            _ => Some(holder),
        }
    }

    /// The pod with this uid.
    #[must_use]
    pub fn pod(&self, uid: Uid) -> Option<&Arc<Pod>> {
        self.pods.get(uid)
    }

    /// All pods, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter()
    }

    /// The labels of a namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The first service by name that leads to `port` of a pod by its selector, and its own port there.
    #[must_use]
    pub fn service_before(&self, pod: &Pod, port: u16) -> Option<(Arc<Service>, u16)> {
        let namespace = &pod.name.namespace;
        let names = self.services_by_namespace.get(namespace)?.iter();
        let services = names.filter_map(|name| {
            let name = Name { namespace: Arc::clone(namespace), name: Arc::clone(name) };
            self.services.get(&name)
        });
        services
            .filter(|service| service.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)))
            .find_map(|service| Some((Arc::clone(service), dialled_port(service, port, pod)?)))
    }

    /// All namespaces, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The pods behind `port` of a service, in a stable order.
    #[must_use]
    pub fn backends(&self, service: &Service, port: u16) -> Vec<Backend> {
        let by_port = service.ports.iter().find(|candidate| candidate.port == port);
        let by_node_port = || service.ports.iter().find(|candidate| candidate.node_port == Some(port));
        let Some(service_port) = by_port.or_else(by_node_port) else { return Vec::new() };
        let mut backends = match self.slices_by_service.get(&service.name) {
            Some(slices) => self.backends_by_slices(slices, service_port),
            // Where slices are told of at all, a service without one has nothing behind it.
            None if self.slices.is_empty() => self.backends_by_selector(service, service_port),
            None => Vec::new(),
        };
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

    /// Rises with every change of policy: what was judged before may be judged otherwise now.
    #[must_use]
    pub fn policy_generation(&self) -> u64 {
        self.policy_generation
    }

    /// Whether no source has told or will tell of any pod: then an unknown address means nothing.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.pods.len() == 0 && !self.awaited
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

    fn apply_pod(&mut self, pod: Pod) -> bool {
        if pod.host_network {
            let node = pod.node.as_ref().unwrap_or(&pod.name.name);
            for address in pod.addresses.iter() {
                self.node_by_address.entry(address).or_insert_with(|| Arc::clone(node));
            }
        }
        self.pods.apply(pod)
    }

    fn apply_service(&mut self, service: Service) -> bool {
        if self.services.get(&service.name).is_some_and(|known| **known == service) {
            return false;
        }
        self.delete_service(&service.name);
        let service = Arc::new(service);
        for address in &service.addresses {
            self.service_by_address.insert(*address, Arc::clone(&service));
        }
        for port in service.ports.iter().filter_map(|port| port.node_port) {
            self.service_by_node_port.insert(port, Arc::clone(&service));
        }
        let Name { namespace, name } = &service.name;
        self.services_by_namespace.entry(Arc::clone(namespace)).or_default().insert(Arc::clone(name));
        self.services.insert(service.name.clone(), service);
        true
    }

    fn delete_service(&mut self, name: &Name) -> bool {
        let Some(service) = self.services.remove(name) else { return false };
        if let Some(names) = self.services_by_namespace.get_mut(&name.namespace) {
            names.remove(&name.name);
            if names.is_empty() {
                self.services_by_namespace.remove(&name.namespace);
            }
        }
        let is_own = |holder: &Arc<Service>| holder.name == service.name;
        for address in &service.addresses {
            if self.service_by_address.get(address).is_some_and(is_own) {
                self.service_by_address.remove(address);
            }
        }
        for port in service.ports.iter().filter_map(|port| port.node_port) {
            if self.service_by_node_port.get(&port).is_some_and(is_own) {
                self.service_by_node_port.remove(&port);
            }
        }
        true
    }

    fn apply_node(&mut self, node: Node) -> bool {
        if self.nodes.get(&node.name) == Some(&node) {
            return false;
        }
        self.delete_node(&Arc::clone(&node.name));
        for address in &node.addresses {
            self.node_by_address.insert(*address, Arc::clone(&node.name));
        }
        self.nodes.insert(Arc::clone(&node.name), node);
        true
    }

    fn delete_node(&mut self, name: &Arc<str>) -> bool {
        let Some(node) = self.nodes.remove(name) else { return false };
        for address in &node.addresses {
            if self.node_by_address.get(address) == Some(&node.name) {
                self.node_by_address.remove(address);
            }
        }
        true
    }

    fn apply_slice(&mut self, slice: EndpointSlice) -> bool {
        if self.slices.get(&slice.name).is_some_and(|known| **known == slice) {
            return false;
        }
        self.delete_slice(&slice.name);
        let slice = Arc::new(slice);
        self.slices_by_service.entry(slice.service_name()).or_default().push(Arc::clone(&slice));
        self.slices.insert(slice.name.clone(), slice);
        true
    }

    fn delete_slice(&mut self, name: &Name) -> bool {
        let Some(slice) = self.slices.remove(name) else { return false };
        let service = slice.service_name();
        if let Some(slices) = self.slices_by_service.get_mut(&service) {
            slices.retain(|candidate| candidate.name != *name);
            if slices.is_empty() {
                self.slices_by_service.remove(&service);
            }
        }
        true
    }

    fn backends_by_slices(&self, slices: &[Arc<EndpointSlice>], port: &ServicePort) -> Vec<Backend> {
        let mut backends = Vec::new();
        for slice in slices {
            let Some((_, target)) = slice.ports.iter().find(|(name, _)| *name == port.name) else { continue };
            backends.extend(
                slice
                    .addresses
                    .iter()
                    .filter_map(|address| self.pods.at(*address))
                    .map(|pod| Backend { pod: Arc::clone(pod), port: *target }),
            );
        }
        backends
    }

    /// What the endpoint controller would write, for manifests that come without endpoint slices.
    fn backends_by_selector(&self, service: &Service, port: &ServicePort) -> Vec<Backend> {
        let Some(selector) = &service.selector else { return Vec::new() };
        self.pods
            .iter()
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
