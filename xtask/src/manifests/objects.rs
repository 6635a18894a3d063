//! Owns Kubernetes objects as data: read from YAML, and compared one by one.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// An object; its kind and name are there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object(Value);

impl Object {
    fn new(value: Value) -> Result<Self> {
        for field in ["/apiVersion", "/kind", "/metadata/name"] {
            if value.pointer(field).and_then(Value::as_str).is_none() {
                bail!("an object without {field}: {value}");
            }
        }
        Ok(Self(value))
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Kind, namespace and name.
    fn id(&self) -> String {
        format!("{} {}/{}", self.kind(), self.text("/metadata/namespace"), self.name())
    }
}

/// The only object of a document.
pub(super) fn one(text: &str) -> Result<Object> {
    Object::new(serde_saphyr::from_str(text).context("read YAML")?)
}

/// All objects of a text of many documents.
pub(super) fn all(text: &str) -> Result<Vec<Object>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("read YAML")?;
    documents.into_iter().filter(|document| !document.is_null()).map(Object::new).collect()
}

/// In what two sets of objects differ, a line each.
pub(super) fn differences(left: &[Object], right: &[Object]) -> Vec<String> {
    let index = |objects: &[Object]| -> BTreeMap<String, Value> {
        objects.iter().map(|object| (object.id(), object.0.clone())).collect()
    };
    let (left, right) = (index(left), index(right));
    let mut found = Vec::new();
    for id in left.keys().chain(right.keys().filter(|id| !left.contains_key(*id))) {
        match (left.get(id), right.get(id)) {
            (Some(left), Some(right)) => compare(id, left, right, &mut found),
            (Some(_), None) => found.push(format!("{id}: only in the first")),
            (None, _) => found.push(format!("{id}: only in the second")),
        }
    }
    found
}

fn compare(place: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))) {
                let (left, right) = (left.get(key), right.get(key));
                let null = Value::Null;
                compare(&format!("{place}.{key}"), left.unwrap_or(&null), right.unwrap_or(&null), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{place}[{index}]"), left, right, found);
            }
        }
        _ if left == right => {}
        _ => found.push(format!("{place}: {left} and {right}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{all, differences};

    const TWO: &str = "---\nkind: A\napiVersion: v1\nmetadata: {name: a, namespace: ns}\nspec: {list: [1, {b: 2}]}\n---\n# nothing\n---\nkind: B\napiVersion: v1\nmetadata: {name: b}\n";

    #[test]
    fn a_difference_names_object_and_field() {
        let left = all(TWO).unwrap();
        assert_eq!(left.len(), 2);
        assert!(differences(&left, &left).is_empty());
        let right = all(&TWO.replace("b: 2", "b: 3")).unwrap();
        assert_eq!(differences(&left, &right), ["A ns/a.spec.list[1].b: 2 and 3"]);
        assert_eq!(differences(&left, &left[..1]), ["B /b: only in the first"]);
        assert_eq!(differences(&left[1..], &left), ["A ns/a: only in the second"]);
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        assert!(all("kind: A\napiVersion: v1\n").is_err());
    }
}
