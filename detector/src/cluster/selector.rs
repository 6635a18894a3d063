//! Owns labels and label selectors.
//!
//! Labels are two strings, the keys and the values: whole clusters share a few sets of keys, and the pods of
//! a workload share both. A look-up walks them and allocates nothing.

mod wire;

use std::sync::Arc;

pub(super) use self::wire::WireSelector;

/// The labels of an object, sorted by key, each key and each value with a NUL after it. Kubernetes allows no
/// NUL in either; what has one is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    keys: Arc<str>,
    values: Arc<str>,
}

impl Labels {
    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter().find(|(candidate, _)| *candidate == key).map(|(_, value)| value)
    }

    /// All labels, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.split_terminator('\0').zip(self.values.split_terminator('\0'))
    }

    /// The two strings, for a store to put shared ones in their place.
    pub(super) fn parts_mut(&mut self) -> [&mut Arc<str>; 2] {
        [&mut self.keys, &mut self.values]
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut labels: Vec<(K, V)> = labels.into_iter().collect();
        labels.retain(|(key, value)| !key.as_ref().contains('\0') && !value.as_ref().contains('\0'));
        labels.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        let (mut keys, mut values) = (String::new(), String::new());
        for (key, value) in &labels {
            for (packed, part) in [(&mut keys, key.as_ref()), (&mut values, value.as_ref())] {
                packed.push_str(part);
                packed.push('\0');
            }
        }
        Self { keys: keys.into(), values: values.into() }
    }
}

/// A label selector (`LabelSelector` of Kubernetes). Every requirement must hold; without any, all match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must have exactly this value.
    pub match_labels: Labels,
    /// The other requirements.
    pub match_expressions: Box<[Requirement]>,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: Arc<str>,
    /// What must hold of it.
    pub operator: Operator,
    /// The values that the operator speaks of.
    pub values: Box<[Arc<str>]>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is there, with one of the values.
    In,
    /// It is not there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether `labels` satisfy every requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.value(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }

    /// The selector as the member `selector` of a manifest, indented by `indent` spaces.
    #[must_use]
    pub(crate) fn yaml(&self, indent: usize) -> String {
        let pad = " ".repeat(indent);
        if self.match_labels.iter().next().is_none() && self.match_expressions.is_empty() {
            return format!("{pad}selector: {{}}\n");
        }
        let mut out = format!("{pad}selector:\n");
        if self.match_labels.iter().next().is_some() {
            out.push_str(&format!("{pad}  matchLabels:\n"));
            for (key, value) in self.match_labels.iter() {
                out.push_str(&format!("{pad}    {key:?}: {value:?}\n"));
            }
        }
        if !self.match_expressions.is_empty() {
            out.push_str(&format!("{pad}  matchExpressions:\n"));
            for Requirement { key, operator, values } in &self.match_expressions {
                out.push_str(&format!("{pad}  - key: {key:?}\n{pad}    operator: {operator:?}\n"));
                if !values.is_empty() {
                    out.push_str(&format!("{pad}    values: {values:?}\n"));
                }
            }
        }
        out
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.value(&self.key);
        let listed = value.is_some_and(|value| self.values.iter().any(|listed| listed.as_ref() == value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Labels, Operator, Requirement, Selector};

    fn requirement(operator: Operator, values: &[&str]) -> Selector {
        Selector {
            match_labels: Labels::default(),
            match_expressions: [Requirement {
                key: "tier".into(),
                operator,
                values: values.iter().map(|value| (*value).into()).collect(),
            }]
            .into(),
        }
    }

    #[test]
    fn labels_come_back_sorted_and_an_empty_value_is_one() {
        let labels = Labels::from_iter([("b", ""), ("a", "1"), ("c\0", "forged")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "")]);
        assert_eq!((labels.value("b"), labels.value("c"), labels.value("")), (Some(""), None, None));
        assert_eq!(Labels::default().iter().count(), 0);
    }

    #[test]
    fn a_selector_without_requirements_matches_everything() {
        assert!(Selector::default().matches(&Labels::default()));
        assert!(Selector::default().matches(&Labels::from_iter([("a", "b")])));
    }

    #[test]
    fn every_label_of_match_labels_must_have_its_value() {
        let selector = Selector {
            match_labels: Labels::from_iter([("app", "gateway"), ("tier", "front")]),
            ..Selector::default()
        };
        assert!(selector.matches(&Labels::from_iter([("tier", "front"), ("app", "gateway"), ("x", "y")])));
        assert!(!selector.matches(&Labels::from_iter([("app", "gateway")])));
        assert!(!selector.matches(&Labels::from_iter([("app", "gateway"), ("tier", "back")])));
    }

    #[test]
    fn expressions_follow_the_kubernetes_operators() {
        let front = Labels::from_iter([("tier", "front")]);
        let none = Labels::default();
        for (operator, values, on_front, on_none) in [
            (Operator::In, &["front", "back"][..], true, false),
            (Operator::In, &["back"], false, false),
            (Operator::NotIn, &["front"], false, true),
            (Operator::Exists, &[], true, false),
            (Operator::DoesNotExist, &[], false, true),
        ] {
            let selector = requirement(operator, values);
            assert_eq!(selector.matches(&front), on_front, "{operator:?} {values:?}");
            assert_eq!(selector.matches(&none), on_none, "{operator:?} {values:?}");
        }
    }
}
