//! Owns the objects: what there is, at which resource version, and what has changed since when.
//!
//! One counter numbers all changes, as etcd's revision does.

#![expect(clippy::indexing_slicing, reason = "members of JSON objects are set by name, which cannot fail")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use serde_json::{Map, Value, json};

/// A resource that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group, empty for the core.
    pub group: String,
    /// The versions that are served, the preferred one first.
    pub versions: Vec<String>,
    /// The kind of its objects.
    pub kind: String,
    /// Its name in paths.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// A resource whose objects are in namespaces.
    #[must_use]
    pub fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned(),
            versions: vec![version.to_owned()],
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
        }
    }

    /// The name that RBAC and kubectl know it by: `pods`, `replicasets.apps`.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Custom resources say their kind in each item of a list, the built-in ones do not.
    pub(super) fn is_custom(&self) -> bool {
        self.group.contains('.') && !self.group.ends_with(".k8s.io")
    }

    /// The group and version of objects as they are answered to a request for `version`.
    pub(super) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }
}

/// An object at one resource version.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) value: Map<String, Value>,
}

/// A change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) verb: &'static str,
    pub(super) object: Arc<Stored>,
}

#[derive(Debug)]
pub(super) struct Collection {
    pub(super) resource: Resource,
    pub(super) objects: BTreeMap<(String, String), Arc<Stored>>,
    pub(super) history: VecDeque<Change>,
    /// What was there at a version at which a list began that is read in pages.
    pub(super) snapshots: HashMap<u64, Arc<[Arc<Stored>]>>,
}

#[derive(Debug)]
pub(super) struct Objects {
    version: u64,
    /// Versions before this are forgotten.
    compacted: u64,
    collections: BTreeMap<String, Collection>,
    /// Objects by the uid of each of their owners: resource, namespace, name. An entry may outlive its object.
    owned: HashMap<String, BTreeSet<(String, String, String)>>,
}

/// The uids of the owners of an object.
fn owners(object: &Map<String, Value>) -> Vec<&str> {
    let owners = object.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
    let owners = owners.and_then(Value::as_array).into_iter().flatten();
    owners.map(|owner| owner.get("uid").and_then(Value::as_str).unwrap_or_default()).collect()
}

impl Default for Objects {
    fn default() -> Self {
        let mut objects =
            Self { version: 400, compacted: 0, collections: BTreeMap::new(), owned: HashMap::new() };
        for (group, version, kind, plural, namespaced) in [
            ("", "v1", "ConfigMap", "configmaps", true),
            ("", "v1", "Namespace", "namespaces", false),
            ("", "v1", "Node", "nodes", false),
            ("", "v1", "Pod", "pods", true),
            ("", "v1", "Service", "services", true),
            ("", "v1", "ServiceAccount", "serviceaccounts", true),
            ("apps", "v1", "ReplicaSet", "replicasets", true),
            ("batch", "v1", "Job", "jobs", true),
            ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
            ("events.k8s.io", "v1", "Event", "events", true),
        ] {
            objects.install(Resource { namespaced, ..Resource::new(group, version, kind, plural) });
        }
        objects
    }
}

impl Objects {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn install(&mut self, resource: Resource) {
        self.collections.entry(resource.full_name()).or_insert_with(|| Collection {
            resource,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            snapshots: HashMap::new(),
        });
    }

    pub(super) fn uninstall(&mut self, resource: &str) {
        self.collections.remove(resource);
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        for collection in self.collections.values_mut() {
            collection.history.clear();
            collection.snapshots.clear();
        }
    }

    pub(super) fn collection(&mut self, full_name: &str) -> Option<&mut Collection> {
        self.collections.get_mut(full_name)
    }

    /// The resource behind a path's group, version and plural.
    pub(super) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Collection> {
        self.collections.values().find(|collection| {
            let resource = &collection.resource;
            resource.group == group
                && resource.plural == plural
                && resource.versions.iter().any(|served| served == version)
        })
    }

    /// The resources of a group.
    pub(super) fn group(&self, group: &str) -> Vec<&Resource> {
        self.collections
            .values()
            .map(|collection| &collection.resource)
            .filter(|resource| resource.group == group)
            .collect()
    }

    #[expect(clippy::panic, reason = "a test's own objects are wrong")]
    pub(super) fn apply(&mut self, object: Value) {
        let Value::Object(mut value) = object else { panic!("no object: {object}") };
        let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(collection) = self
            .collections
            .values_mut()
            .find(|collection| collection.resource.group == group && collection.resource.kind == kind)
        else {
            panic!("no resource for kind {kind:?} in group {group:?}");
        };
        self.version += 1;
        let version = self.version;
        let metadata = value.entry("metadata").or_insert_with(|| json!({}));
        let text = |key| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(name) = text("name") else { panic!("a {kind} without a name") };
        let namespace = match text("namespace") {
            Some(namespace) => namespace,
            None if collection.resource.namespaced => "default".to_owned(),
            None => String::new(),
        };
        let old = collection.objects.get(&(namespace.clone(), name.clone()));
        let uid = text("uid")
            .or_else(|| Some(old?.value["metadata"]["uid"].as_str()?.to_owned()))
            .unwrap_or_else(|| format!("00000000-0000-4000-8000-{version:012x}"));
        metadata["uid"] = json!(uid);
        metadata["resourceVersion"] = json!(version.to_string());
        if collection.resource.namespaced {
            metadata["namespace"] = json!(namespace);
        }
        if metadata.get("creationTimestamp").is_none() {
            metadata["creationTimestamp"] = json!("2026-11-24T04:40:27Z");
        }
        let verb = if old.is_some() { "MODIFIED" } else { "ADDED" };
        let stored = Arc::new(Stored { namespace: namespace.clone(), name: name.clone(), value });
        for owner in owners(&stored.value) {
            let key = (collection.resource.full_name(), namespace.clone(), name.clone());
            self.owned.entry(owner.to_owned()).or_default().insert(key);
        }
        collection.objects.insert((namespace, name), Arc::clone(&stored));
        collection.history.push_back(Change { version, verb, object: stored });
    }

    pub(super) fn delete(&mut self, resource: &str, namespace: &str, name: &str) -> bool {
        let Some(collection) = self.collections.get_mut(resource) else { return false };
        let Some(gone) = collection.objects.remove(&(namespace.to_owned(), name.to_owned())) else {
            return false;
        };
        self.version += 1;
        let version = self.version;
        // The event bears the version of the deletion, as in the recorded watch.
        let mut value = gone.value.clone();
        if let Some(metadata) = value.get_mut("metadata") {
            metadata["resourceVersion"] = json!(version.to_string());
        }
        let object = Arc::new(Stored { namespace: gone.namespace.clone(), name: gone.name.clone(), value });
        collection.history.push_back(Change { version, verb: "DELETED", object });
        if let Some(uid) = gone.value["metadata"]["uid"].as_str() {
            self.collect_garbage(uid);
        }
        true
    }

    /// Deletes what the owner that is gone has owned, as the controller of the real cluster does in the background.
    fn collect_garbage(&mut self, uid: &str) {
        for (resource, namespace, name) in self.owned.remove(uid).unwrap_or_default() {
            let found = self.collections.get(&resource);
            let object = found.and_then(|found| found.objects.get(&(namespace.clone(), name.clone())));
            // It may be gone, have lost this owner since, or have another one.
            let orphan = object.is_some_and(|object| {
                let owners = owners(&object.value);
                !owners.is_empty() && owners.iter().all(|owner| *owner == uid)
            });
            if orphan {
                self.delete(&resource, &namespace, &name);
            }
        }
    }
}
