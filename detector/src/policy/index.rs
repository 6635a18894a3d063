//! Owns the index of objects that select pods by labels.
//!
//! Each selector is filed under the rarest of its labels, so a pod looks at objects that share a label with
//! it and not at all of a namespace. Objects stay in the order of their age, by which meshes settle conflicts.

use std::{collections::HashMap, sync::Arc};

use crate::cluster::{Labels, Selector, objects::Name};

/// When an object was made, in seconds since 1970; an object from a file that says nothing is younger than
/// all that the server made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Created(pub i64);

impl Default for Created {
    fn default() -> Self {
        Self(i64::MAX)
    }
}

/// What every policy object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub name: Name,
    /// When it was made: among several of one kind the oldest wins, then the first by name.
    pub created: Created,
    /// Paths of fields that we do not know.
    pub unknown: Box<[Box<str>]>,
}

impl Meta {
    /// The metadata of an object without a date.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { name: Name::new(namespace, name), created: Created::default(), unknown: Box::default() }
    }

    /// By age, then by name: the order in which meshes settle conflicts.
    #[must_use]
    pub fn order(&self) -> (Created, &Name) {
        (self.created, &self.name)
    }
}

/// An object that has metadata, and selects pods or all pods.
pub(super) trait Selects {
    fn meta(&self) -> &Meta;

    /// `None` selects every pod.
    fn selector(&self) -> Option<&Selector>;
}

/// Objects of one kind and namespace, by the labels that they select.
#[derive(Debug)]
pub(super) struct Selected<T> {
    /// By age.
    all: Vec<Arc<T>>,
    /// Those that no label can be required for.
    always: Vec<usize>,
    by_label: HashMap<Arc<str>, HashMap<Arc<str>, Vec<usize>>>,
}

impl<T> Default for Selected<T> {
    fn default() -> Self {
        Self { all: Vec::new(), always: Vec::new(), by_label: HashMap::new() }
    }
}

impl<T: Selects> Selected<T> {
    pub(super) fn build(mut all: Vec<Arc<T>>) -> Self {
        all.sort_by(|a, b| a.meta().order().cmp(&b.meta().order()));
        let mut often: HashMap<(&str, &str), usize> = HashMap::new();
        for object in &all {
            for label in object.selector().into_iter().flat_map(|selector| selector.match_labels.iter()) {
                *often.entry(label).or_insert(0) += 1;
            }
        }
        let mut always = Vec::new();
        let mut by_label: HashMap<Arc<str>, HashMap<Arc<str>, Vec<usize>>> = HashMap::new();
        for (index, object) in all.iter().enumerate() {
            let labels = object.selector().into_iter().flat_map(|selector| selector.match_labels.iter());
            match labels.min_by_key(|label| often.get(label)) {
                Some((key, value)) => {
                    by_label.entry(key.into()).or_default().entry(value.into()).or_default().push(index);
                }
                None => always.push(index),
            }
        }
        Self { all, always, by_label }
    }

    /// The objects that select a pod with `labels`, oldest first.
    pub(super) fn matching(&self, labels: &Labels) -> Vec<&Arc<T>> {
        let mut found: Vec<usize> = self.always.clone();
        for (key, value) in labels.iter() {
            if let Some(under) = self.by_label.get(key).and_then(|values| values.get(value)) {
                found.extend(under);
            }
        }
        found.sort_unstable();
        found
            .into_iter()
            .filter_map(|index| self.all.get(index))
            .filter(|object| object.selector().is_none_or(|selector| selector.matches(labels)))
            .collect()
    }

    /// All objects, oldest first.
    pub(super) fn all(&self) -> &[Arc<T>] {
        &self.all
    }
}

/// Objects of one kind, by namespace.
#[derive(Debug)]
pub(super) struct ByNamespace<T>(HashMap<Arc<str>, Selected<T>>);

impl<T> Default for ByNamespace<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Selects> ByNamespace<T> {
    pub(super) fn build(objects: impl IntoIterator<Item = Arc<T>>) -> Self {
        let mut by: HashMap<Arc<str>, Vec<Arc<T>>> = HashMap::new();
        for object in objects {
            by.entry(Arc::clone(&object.meta().name.namespace)).or_default().push(object);
        }
        Self(by.into_iter().map(|(namespace, objects)| (namespace, Selected::build(objects))).collect())
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> Option<&Selected<T>> {
        self.0.get(namespace)
    }

    /// The objects of `namespace` that select a pod with `labels`, oldest first.
    pub(super) fn matching(&self, namespace: &str, labels: &Labels) -> Vec<&Arc<T>> {
        self.in_namespace(namespace).map_or_else(Vec::new, |selected| selected.matching(labels))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Created, Meta, Selected, Selects};
    use crate::cluster::{Labels, Selector};

    struct Object(Meta, Option<Selector>);

    impl Selects for Object {
        fn meta(&self) -> &Meta {
            &self.0
        }

        fn selector(&self) -> Option<&Selector> {
            self.1.as_ref()
        }
    }

    fn object(name: &str, created: i64, labels: &[(&str, &str)]) -> Arc<Object> {
        let meta = Meta { created: Created(created), ..Meta::new("n", name) };
        let selector =
            Selector { match_labels: Labels::from_iter(labels.iter().copied()), ..Selector::default() };
        Arc::new(Object(meta, (!labels.is_empty()).then_some(selector)))
    }

    #[test]
    fn objects_are_found_by_any_label_and_told_by_age() {
        let selected = Selected::build(vec![
            object("young", 9, &[("app", "a")]),
            object("all", 5, &[]),
            object("old", 1, &[("app", "a"), ("tier", "t")]),
            object("other", 0, &[("app", "b")]),
            object("b-same-age", 5, &[("tier", "t")]),
        ]);
        let names = |labels: &[(&str, &str)]| -> Vec<String> {
            selected
                .matching(&Labels::from_iter(labels.iter().copied()))
                .iter()
                .map(|object| object.0.name.name.to_string())
                .collect()
        };
        assert_eq!(names(&[("app", "a"), ("tier", "t")]), ["old", "all", "b-same-age", "young"]);
        assert_eq!(names(&[("app", "a")]), ["all", "young"]);
        assert_eq!(names(&[]), ["all"]);
        assert_eq!(selected.all().len(), 5);
    }
}
