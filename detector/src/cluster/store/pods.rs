//! Owns the pods: one small allocation each, and two sets of pointers to them.
//!
//! 150,000 pods have to fit beside everything else in 64 MiB. So what pods of a workload share is held once,
//! names that recur are held once, and the indices hold pointers, not keys: the key is read through them.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use crate::cluster::{
    objects::{Name, OwnerKind, Pod, PodTemplate, Uid},
    workload::Workload,
};

/// A pod, found by its uid.
#[derive(Debug)]
struct ByUid(Arc<Pod>);

impl Borrow<Uid> for ByUid {
    fn borrow(&self) -> &Uid {
        &self.0.uid
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uid == other.0.uid
    }
}

impl Eq for ByUid {}

impl Hash for ByUid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uid.hash(state);
    }
}

/// A pod, found by one of its addresses.
#[derive(Debug)]
struct ByAddress {
    pod: Arc<Pod>,
    index: u8,
}

impl ByAddress {
    const NONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
}

impl Borrow<IpAddr> for ByAddress {
    fn borrow(&self) -> &IpAddr {
        // Made with an index that is there, of a pod that does not change.
        self.pod.addresses.get(usize::from(self.index)).unwrap_or(&Self::NONE)
    }
}

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        let (one, other): (&IpAddr, &IpAddr) = (self.borrow(), other.borrow());
        one == other
    }
}

impl Eq for ByAddress {}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let address: &IpAddr = self.borrow();
        address.hash(state);
    }
}

type OwnerKey = (OwnerKind, Name);

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    by_uid: HashSet<ByUid>,
    by_address: HashSet<ByAddress>,
    /// What runs owners whose names do not say it.
    owners: HashMap<OwnerKey, Workload>,
    /// Pods whose owner may have another above it that is not known yet.
    orphans: HashMap<OwnerKey, Vec<Uid>>,
    strings: HashSet<Arc<str>>,
    templates: HashSet<Arc<PodTemplate>>,
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
        let Some(ByUid(pod)) = self.by_uid.take(&uid) else { return false };
        self.unlink(&pod);
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
            let Some(ByUid(known)) = self.by_uid.take(uid) else { continue };
            self.unlink(&known);
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
        self.by_uid.get(&uid).map(|ByUid(pod)| pod)
    }

    /// The pod that has an address. Does not allocate.
    pub(super) fn at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.by_address.get(&address).map(|found| &found.pod)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.by_uid.iter().map(|ByUid(pod)| pod)
    }

    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }

    fn insert(&mut self, mut pod: Pod) {
        self.share(&mut pod);
        let pod = Arc::new(pod);
        if !pod.host_network {
            for index in 0..u8::try_from(pod.addresses.len()).unwrap_or(u8::MAX) {
                // The address passes on to this pod from whoever had it.
                self.by_address.replace(ByAddress { pod: Arc::clone(&pod), index });
            }
        }
        self.by_uid.replace(ByUid(pod));
    }

    /// Takes a pod out of the addresses, but for those that have passed on to a successor.
    fn unlink(&mut self, pod: &Arc<Pod>) {
        for address in &pod.addresses {
            if self.at(*address).is_some_and(|holder| Arc::ptr_eq(holder, pod)) {
                self.by_address.remove(address);
            }
        }
    }

    /// Has the pod share what others have too.
    fn share(&mut self, pod: &mut Pod) {
        self.share_text(&mut pod.name.namespace);
        if let Some(node) = &mut pod.node {
            self.share_text(node);
        }
        match self.templates.get(&pod.template) {
            Some(known) => pod.template = Arc::clone(known),
            None => {
                let template = Arc::make_mut(&mut pod.template);
                self.share_text(&mut template.service_account);
                self.share_text(&mut template.workload.name);
                self.templates.insert(Arc::clone(&pod.template));
            }
        }
    }

    fn share_text(&mut self, text: &mut Arc<str>) {
        match self.strings.get(text) {
            Some(known) => *text = Arc::clone(known),
            None => drop(self.strings.insert(Arc::clone(text))),
        }
    }
}
