//! Owns the shape of policy objects on the wire, of meshes and our own, and their way into [`crate::policy`].
//!
//! All served versions of a kind have the same fields here, and are read alike. A field that we do not know
//! is kept as a note; where it could change what a rule matches, the rule is uncertain or the object refused.

mod config;
mod istio;
mod linkerd;
mod own;

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    selector::{Labels, Selector, WireSelector},
    wire::DecodeError,
};
use crate::policy::{
    PolicyObject,
    index::{Created, Meta},
};

/// Turns a policy object into what policy holds of it; `None` for any other kind.
pub(super) fn decode(
    api_version: &str,
    kind: &str,
    object: &mut Value,
) -> Result<Option<PolicyObject>, DecodeError> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let read = match (group, kind) {
        ("security.istio.io", "PeerAuthentication") => istio::peer_authentication,
        ("security.istio.io", "AuthorizationPolicy") => istio::authorization_policy,
        ("networking.istio.io", "DestinationRule") => istio::destination_rule,
        ("policy.linkerd.io", "Server") => linkerd::server,
        ("policy.linkerd.io", "ServerAuthorization") => linkerd::server_authorization,
        ("policy.linkerd.io", "AuthorizationPolicy") => linkerd::authorization_policy,
        ("policy.linkerd.io", "MeshTLSAuthentication") => linkerd::mesh_tls_authentication,
        ("policy.linkerd.io", "NetworkAuthentication") => linkerd::network_authentication,
        ("plainsight.dev", "TrafficException") => own::traffic_exception,
        ("", "ConfigMap") => return config::decode(object),
        _ => return Ok(None),
    };
    if group == "plainsight.dev" && api_version != "plainsight.dev/v1alpha1" {
        return Err(wrong("apiVersion", format!("{api_version:?} is not known, plainsight.dev/v1alpha1 is")));
    }
    let metadata: WireMeta = part(object, "metadata")?.0;
    let spec = object.get_mut("spec").map_or(Value::Null, Value::take);
    read(metadata, spec).map(Some)
}

/// Whether objects of this kind are read here.
pub(super) fn is_known(group: &str, kind: &str) -> bool {
    match group {
        "security.istio.io" => matches!(kind, "PeerAuthentication" | "AuthorizationPolicy"),
        "networking.istio.io" => kind == "DestinationRule",
        "policy.linkerd.io" => matches!(
            kind,
            "Server"
                | "ServerAuthorization"
                | "AuthorizationPolicy"
                | "MeshTLSAuthentication"
                | "NetworkAuthentication"
        ),
        "plainsight.dev" => kind == "TrafficException",
        "" => kind == "ConfigMap",
        _ => false,
    }
}

fn wrong(field: &str, why: impl Into<String>) -> DecodeError {
    DecodeError::Field { field: field.to_owned(), why: why.into() }
}

/// A member of an object, and the paths of what was not read of it.
fn part<T: DeserializeOwned>(object: &mut Value, member: &str) -> Result<(T, Unknown), DecodeError> {
    read_part(object.get_mut(member).map_or(Value::Null, Value::take), member)
}

fn read_part<T: DeserializeOwned>(value: Value, member: &str) -> Result<(T, Unknown), DecodeError> {
    // What is not there is as if it were empty; a field that must be there says so itself.
    let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        // A step into an optional field is a step of its own there.
        let steps = path.to_string();
        let steps: Vec<&str> = steps.split('.').filter(|step| *step != "?").collect();
        unknown.push(format!("{member}.{}", steps.join(".")).into());
    });
    match read {
        Ok(read) => Ok((read, Unknown(unknown))),
        Err(error) => {
            let path = track.path().to_string().replace(".?", "");
            let field = if path == "." { member.to_owned() } else { format!("{member}.{path}") };
            Err(wrong(&field, error.to_string()))
        }
    }
}

/// Paths of fields that were not read.
struct Unknown(Vec<Box<str>>);

impl Unknown {
    /// Whether any is below `path`.
    fn any_below(&self, path: &str) -> bool {
        self.0.iter().any(|unknown| unknown.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Without those that end in one of `known`: fields that are there and say nothing of policy.
    fn without(mut self, known: &[&str]) -> Self {
        self.0.retain(|path| !path.rsplit('.').next().is_some_and(|leaf| known.contains(&leaf)));
        self
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMeta {
    name: String,
    namespace: Option<String>,
    creation_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl WireMeta {
    fn meta(&self, unknown: Unknown) -> Result<Meta, DecodeError> {
        if self.name.is_empty() {
            return Err(wrong("metadata.name", "missing"));
        }
        let created = match self.creation_timestamp.as_deref() {
            None => Created::default(),
            Some(text) => {
                let time: jiff::Timestamp = text.parse().map_err(|_no_time| {
                    wrong("metadata.creationTimestamp", format!("{text:?} is no time"))
                })?;
                Created(time.as_second())
            }
        };
        let meta = Meta::new(self.namespace.as_deref().unwrap_or("default"), &self.name);
        Ok(Meta { created, unknown: unknown.0.into(), ..meta })
    }

    fn labels(&self) -> Labels {
        Labels::from_iter(self.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// A time: RFC 3339, or a date, which ends with its day in UTC.
fn time(field: &str, text: &str) -> Result<jiff::Timestamp, DecodeError> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    let midnight = format!("{text}T23:59:59Z");
    midnight.parse().map_err(|_no_time| {
        wrong(field, format!("{text:?} is no time such as 2026-12-31T00:00:00Z or 2026-12-31"))
    })
}

/// The seconds since 1970 at which a deadline in an annotation ends; `None` where it is no time.
#[must_use]
pub fn deadline(text: &str) -> Option<i64> {
    time("", text).ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests;
