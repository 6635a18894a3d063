//! Owns one look at the API server: everything that policy and identities need, as it is now.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{
        objects::{Kind, Object, OwnerKind},
        wire,
    },
    Access,
    access::{Connected, Connection},
    failure::Failure,
    mesh_config, request,
    resource::{self, PODS, Resource},
};

/// How long an answer may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// What the API server has.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The objects.
    pub objects: Vec<Object>,
    /// What could not be read, each with object and field, or with the right that is missing.
    pub errors: Vec<String>,
}

/// The cluster could not be read.
#[derive(Debug, thiserror::Error)]
#[error("list {resource}: {why}")]
pub struct SnapshotError {
    resource: String,
    why: String,
}

/// Reads everything once.
///
/// # Errors
///
/// The server cannot be reached or refuses the credentials, or pods may not be read: without them there is
/// nothing to look at. Any other right that is missing is among the snapshot's errors.
pub async fn snapshot(access: Access) -> Result<Snapshot, SnapshotError> {
    let connection = Connection::new(access, Duration::from_secs(2));
    let failed = |resource: &str, why: &dyn std::fmt::Display| SnapshotError {
        resource: resource.to_owned(),
        why: why.to_string(),
    };
    let connected =
        connection.client().await.map_err(|error| failed(PODS, &anyhow::Error::new(error).root_cause()))?;
    let mut snapshot = Snapshot::default();
    for (resource, kind) in resource::identities().into_iter().chain(resource::policies()) {
        if !is_needed(kind) {
            continue;
        }
        match list(&connected, &resource, &mut snapshot).await {
            // Its definition is not installed, so there are none.
            Ok(()) | Err(Failure::Absent) => {}
            Err(Failure::Forbidden(_)) if resource.plural != PODS => {
                snapshot.errors.push(format!(
                    "{} may not be read, so nothing is known of them; a ClusterRole needs {}",
                    resource.full_name(),
                    resource.rule()
                ));
            }
            Err(error) => return Err(failed(&resource.full_name(), &error)),
        }
    }
    let revisions: BTreeSet<String> = snapshot
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Namespace(namespace) => namespace.labels.value("istio.io/rev").map(str::to_owned),
            _ => None,
        })
        .collect();
    for (namespace, name) in mesh_config::names(revisions.iter().map(String::as_str)) {
        match request::config_map(&connection, &namespace, &name).await {
            Ok(text) => match mesh_config::decode(&text) {
                Ok(object) => snapshot.objects.extend(object),
                Err(error) => snapshot.errors.push(format!("ConfigMap {namespace}/{name}: {error}")),
            },
            // The mesh's defaults are taken, as the daemon does.
            Err(Failure::Absent) => {}
            Err(error) => tracing::debug!(%namespace, %name, %error, "no mesh configuration"),
        }
    }
    Ok(snapshot)
}

/// Whether posture depends on objects of this kind.
fn is_needed(kind: Kind) -> bool {
    match kind {
        Kind::Pod
        | Kind::Service
        | Kind::Namespace
        | Kind::ExpectedSources
        | Kind::Policy(_)
        | Kind::Owner(OwnerKind::ReplicaSet | OwnerKind::Job) => true,
        Kind::Node | Kind::EndpointSlice | Kind::ServiceAccount => false,
    }
}

/// Lists a resource, in the first of its versions that is served.
async fn list(connected: &Connected, resource: &Resource, into: &mut Snapshot) -> Result<(), Failure> {
    for version in resource.versions {
        match pages(connected, resource, version, into).await {
            Err(Failure::Absent) => {}
            done => return done,
        }
    }
    Err(Failure::Absent)
}

async fn pages(
    connected: &Connected,
    resource: &Resource,
    version: &str,
    into: &mut Snapshot,
) -> Result<(), Failure> {
    let mut token: Option<String> = None;
    loop {
        let text = request::page(connected, resource, version, token.as_deref(), SILENCE, || {}).await?;
        let page: request::Page<'_> = request::parse(&text)?;
        for item in page.items.into_iter().flatten() {
            match decode(resource, version, item) {
                Ok(object) => into.objects.extend(object),
                Err(error) => into.errors.push(format!("{}: {error}", name(resource, item))),
            }
        }
        token = page.metadata.token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(());
        }
    }
}

fn decode(resource: &Resource, version: &str, item: &RawValue) -> Result<Option<Object>, wire::DecodeError> {
    let mut json = serde_json::Deserializer::from_str(item.get());
    wire::decode(&resource.api_version(version), resource.kind, &mut json)
}

/// Kind, namespace and name of an object that cannot be read.
fn name(resource: &Resource, item: &RawValue) -> String {
    #[derive(Default, Deserialize)]
    struct Named {
        metadata: Meta,
    }
    #[derive(Default, Deserialize)]
    struct Meta {
        #[serde(default)]
        namespace: Option<String>,
        #[serde(default)]
        name: String,
    }
    let Named { metadata } = serde_json::from_str(item.get()).unwrap_or_default();
    match metadata.namespace {
        Some(namespace) => format!("{} {namespace}/{}", resource.kind, metadata.name),
        None => format!("{} {}", resource.kind, metadata.name),
    }
}
