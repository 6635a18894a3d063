//! Owns the reading of requests: path, query and the form that the client accepts.

use super::{count::Verb, objects::Stored};

/// A request for a resource.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) metadata_only: bool,
    pub(super) watch: bool,
    pub(super) limit: Option<usize>,
    pub(super) token: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) send_initial_events: bool,
    pub(super) not_older_than: bool,
    pub(super) bookmarks: bool,
    pub(super) timeout: Option<u64>,
    pub(super) fields: Vec<(String, String)>,
    pub(super) labels: Vec<(String, String)>,
}

impl Wanted {
    /// Reads a path below `/api` or `/apis`; `None` for any other.
    pub(super) fn parse(path: &str, query: &str, accept: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, plural, name) = match rest[..] {
            [plural] => (None, plural, None),
            [plural, name] => (None, plural, Some(name)),
            ["namespaces", namespace, plural] => (Some(namespace), plural, None),
            ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name)),
            _ => return None,
        };
        let mut wanted = Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            metadata_only: accept.contains("as=PartialObjectMetadata"),
            ..Self::default()
        };
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decode(value);
            let on = value == "true" || value == "1";
            match key {
                "watch" => wanted.watch = on,
                "limit" => wanted.limit = value.parse().ok().filter(|limit| *limit > 0),
                "continue" => wanted.token = Some(value),
                "resourceVersion" => wanted.resource_version = Some(value).filter(|text| !text.is_empty()),
                "resourceVersionMatch" => wanted.not_older_than = value == "NotOlderThan",
                "sendInitialEvents" => wanted.send_initial_events = on,
                "allowWatchBookmarks" => wanted.bookmarks = on,
                "timeoutSeconds" => wanted.timeout = value.parse().ok(),
                "fieldSelector" => wanted.fields = equalities(&value),
                "labelSelector" => wanted.labels = equalities(&value),
                _ => {}
            }
        }
        Some(wanted)
    }

    pub(super) fn verb(&self) -> Verb {
        match (self.watch, &self.name) {
            (true, _) => Verb::Watch,
            (false, Some(_)) => Verb::Get,
            (false, None) => Verb::List,
        }
    }

    /// Whether the request's namespace and selectors let an object through.
    pub(super) fn selects(&self, object: &Stored) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == object.namespace)
            && self.fields.iter().all(|(field, wanted)| {
                let mut at = field.split('.');
                let first = at.next().and_then(|key| object.value.get(key));
                let found = at.fold(first, |value, key| value.and_then(|value| value.get(key)));
                found.and_then(|value| value.as_str()).unwrap_or_default() == wanted
            })
            && self.labels.iter().all(|(key, wanted)| {
                let labels = object.value.get("metadata").and_then(|metadata| metadata.get("labels"));
                labels.and_then(|labels| labels.get(key)).and_then(|value| value.as_str()) == Some(wanted)
            })
    }
}

fn equalities(selector: &str) -> Vec<(String, String)> {
    let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned())).collect()
}

/// Undoes percent-encoding, and `+` for a space.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| {
                    digit
                        .and_then(|digit| char::from(digit).to_digit(16))
                        .and_then(|digit| u8::try_from(digit).ok())
                });
                if let [Some(high), Some(low)] = digits {
                    out.push(high << 4 | low);
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
