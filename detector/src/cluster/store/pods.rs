//! Owns the pods: one small allocation each, and two sets of pointers to them.
//!
//! 150,000 pods have to fit beside everything else in 64 MiB. So what pods of a workload share is held once,
//! names that recur are held once, and the indices hold pointers, not keys: the key is read through them.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    net::IpAddr,
    sync::Arc,
};

use hashbrown::{HashTable, hash_table::Entry};

use crate::cluster::{
    objects::{Name, OwnerKind, Pod, PodTemplate, Uid},
    workload::Workload,
};
use crate::policy::PodMesh;

type NamedPorts = Arc<[(Arc<str>, u16)]>;
type OwnerKey = (OwnerKind, Name);

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    hasher: RandomState,
    by_uid: HashTable<Arc<Pod>>,
    by_v4: HashTable<Arc<Pod>>,
    by_v6: HashTable<Arc<Pod>>,
    /// What runs owners whose names do not say it.
    owners: HashMap<OwnerKey, Workload>,
    /// Pods whose owner may have another above it that is not known yet.
    orphans: HashMap<OwnerKey, Vec<Uid>>,
    strings: HashSet<Arc<str>>,
    templates: HashSet<Arc<PodTemplate>>,
    ports: HashSet<NamedPorts>,
    proxies: HashSet<Arc<PodMesh>>,
    /// Pods that went since the shared parts were last looked through.
    removed: usize,
}

impl Pods {
    /// Takes a pod in; whether that changes anything.
    pub(super) fn apply(&mut self, mut pod: Pod) -> bool {
        let mut orphan = None;
        if let Some(kind) = OwnerKind::of(&pod.workload) {
            let key = (kind, Name::new(Arc::clone(&pod.name.namespace), Arc::clone(&pod.workload.name)));
            match self.owners.get(&key) {
                Some(workload) => Arc::make_mut(&mut pod.template).workload = workload.clone(),
                None => orphan = Some(key),
            }
        }
        if self.get(pod.uid).is_some_and(|known| **known == pod) {
            return false;
        }
        self.delete(pod.uid);
        if let Some(key) = orphan {
            self.orphans.entry(key).or_default().push(pod.uid);
        }
        self.insert(pod);
        true
    }

    /// Forgets a pod; whether it was there.
    pub(super) fn delete(&mut self, uid: Uid) -> bool {
        let Some(pod) = self.take(uid) else { return false };
        if let Some(kind) = OwnerKind::of(&pod.workload) {
            let key = (kind, Name::new(Arc::clone(&pod.name.namespace), Arc::clone(&pod.workload.name)));
            if let Some(orphans) = self.orphans.get_mut(&key) {
                orphans.retain(|orphan| *orphan != uid);
                if orphans.is_empty() {
                    self.orphans.remove(&key);
                }
            }
        }
        drop(pod);
        self.removed += 1;
        if self.removed > 1024 + self.by_uid.len() / 4 {
            self.removed = 0;
            self.templates.retain(|template| Arc::strong_count(template) > 1);
            self.ports.retain(|ports| Arc::strong_count(ports) > 1);
            self.proxies.retain(|proxy| Arc::strong_count(proxy) > 1);
            self.strings.retain(|text| Arc::strong_count(text) > 1);
        }
        true
    }

    /// Learns what runs an owner, and tells its pods; whether any pod changed.
    pub(super) fn apply_owner(&mut self, kind: OwnerKind, name: Name, workload: Option<Workload>) -> bool {
        let key = (kind, name);
        let Some(workload) = workload else {
            self.owners.remove(&key);
            return false;
        };
        let waiting = self.orphans.remove(&key).unwrap_or_default();
        self.owners.insert(key, workload.clone());
        for uid in &waiting {
            let Some(known) = self.take(*uid) else { continue };
            let mut pod = Pod::clone(&known);
            Arc::make_mut(&mut pod.template).workload = workload.clone();
            self.insert(pod);
        }
        !waiting.is_empty()
    }

    /// Forgets an owner. Its pods keep what it told: as a rule they go too.
    pub(super) fn delete_owner(&mut self, kind: OwnerKind, name: &Name) {
        self.owners.remove(&(kind, name.clone()));
    }

    /// Owners that are remembered, by kind and name.
    pub(super) fn owners(&self) -> impl Iterator<Item = &OwnerKey> {
        self.owners.keys()
    }

    pub(super) fn get(&self, uid: Uid) -> Option<&Arc<Pod>> {
        self.by_uid.find(self.hasher.hash_one(uid), |pod| pod.uid == uid)
    }

    /// The pod that has an address. Does not allocate.
    pub(super) fn at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        let table = if address.is_ipv4() { &self.by_v4 } else { &self.by_v6 };
        table.find(self.hasher.hash_one(address), |pod| pod.addresses.contains(address))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.by_uid.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }

    fn insert(&mut self, mut pod: Pod) {
        self.share(&mut pod);
        let pod = Arc::new(pod);
        let hasher = &self.hasher;
        if !pod.host_network {
            for address in pod.addresses.iter() {
                let v4 = address.is_ipv4();
                let table = if v4 { &mut self.by_v4 } else { &mut self.by_v6 };
                let key = |pod: &Arc<Pod>| {
                    let own = pod.addresses.iter().find(|own| own.is_ipv4() == v4);
                    own.map_or(0, |own| hasher.hash_one(own))
                };
                let holder =
                    table.entry(hasher.hash_one(address), |pod| pod.addresses.contains(address), key);
                match holder {
                    // The address passes on to this pod from whoever had it.
                    Entry::Occupied(mut holder) => *holder.get_mut() = Arc::clone(&pod),
                    Entry::Vacant(free) => drop(free.insert(Arc::clone(&pod))),
                }
            }
        }
        self.by_uid.insert_unique(hasher.hash_one(pod.uid), pod, |pod| hasher.hash_one(pod.uid));
    }

    /// Takes a pod out, of the addresses too.
    fn take(&mut self, uid: Uid) -> Option<Arc<Pod>> {
        let found = self.by_uid.find_entry(self.hasher.hash_one(uid), |pod| pod.uid == uid).ok()?;
        let (pod, _) = found.remove();
        for address in pod.addresses.iter() {
            let table = if address.is_ipv4() { &mut self.by_v4 } else { &mut self.by_v6 };
            // Not what has passed on to a successor.
            let own = |holder: &Arc<Pod>| Arc::ptr_eq(holder, &pod);
            if let Ok(found) = table.find_entry(self.hasher.hash_one(address), own) {
                let (_pod, _) = found.remove();
            }
        }
        Some(pod)
    }

    /// Has the pod share what others have too.
    fn share(&mut self, pod: &mut Pod) {
        let Self { strings, templates, ports, proxies, .. } = self;
        share(strings, &mut pod.name.namespace);
        if let Some(node) = &mut pod.node {
            share(strings, node);
        }
        if let Some(known) = templates.get(&pod.template) {
            pod.template = Arc::clone(known);
            return;
        }
        let template = Arc::make_mut(&mut pod.template);
        let PodTemplate {
            workload: Workload { kind: _, name },
            service_account,
            host_network: _,
            labels,
            annotations,
            named_ports,
            proxy,
        } = template;
        share(strings, name);
        share(strings, service_account);
        // The values are as good as never another workload's.
        let [keys, _values] = labels.parts_mut();
        share(strings, keys);
        for part in annotations.parts_mut() {
            share(strings, part);
        }
        share(ports, named_ports);
        share(proxies, proxy);
        templates.insert(Arc::clone(&pod.template));
    }
}

/// Puts what is known already in the place of what is the same.
fn share<T: ?Sized + Eq + Hash>(known: &mut HashSet<Arc<T>>, one: &mut Arc<T>) {
    match known.get(one) {
        Some(known) => *one = Arc::clone(known),
        None => drop(known.insert(Arc::clone(one))),
    }
}
