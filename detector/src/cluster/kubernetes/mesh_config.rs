//! Owns the meshes' own configuration: read by name now and then, into the store as policy.
//!
//! It needs `get` on few `ConfigMaps` and nothing else. Where one is not there or may not be read, the mesh's
//! defaults hold; what was read once stays until the server says that it is gone.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{
        identity::{self, TrustDomain},
        objects::{Name, Object, ObjectRef},
        store::SharedStore,
        wire,
    },
    access::Connection,
    failure::Failure,
    request,
};
use crate::policy::{Kind, ObjectKey};

/// Where Istio and Linkerd keep their configuration.
const ISTIO: (&str, &str) = ("istio-system", "istio");
const LINKERD: (&str, &str) = ("linkerd", "linkerd-config");

/// Revisions of Istio that are asked for at most.
const REVISIONS: usize = 8;

/// Asks for the configurations, and again every so often.
pub(super) async fn follow(
    connection: Connection,
    store: SharedStore,
    trust_domain: TrustDomain,
    every: Duration,
) {
    // What cannot be read is said once.
    let mut told = BTreeSet::new();
    loop {
        let mut soon = false;
        let revisions: BTreeSet<String> = store
            .read()
            .namespaces()
            .filter_map(|namespace| namespace.labels.value("istio.io/rev").map(str::to_owned))
            .collect();
        let names = names(revisions.iter().map(String::as_str));
        for (namespace, name) in names {
            match request::config_map(&connection, &namespace, &name).await {
                Ok(text) => match decode(&text) {
                    Ok(object) => {
                        if (namespace.as_str(), name.as_str()) == ISTIO {
                            discover(&text, &trust_domain);
                        }
                        take(&store, &namespace, &name, object);
                    }
                    Err(error) => {
                        if told.insert((namespace.clone(), name.clone())) {
                            tracing::warn!(
                                config_map = %format_args!("{namespace}/{name}"), %error,
                                "a mesh's configuration cannot be read, so what it said before holds, or its defaults"
                            );
                        }
                    }
                },
                Err(Failure::Absent) => take(&store, &namespace, &name, None),
                // Without the mesh's namespace there is nothing that could be missed.
                Err(Failure::Forbidden(reason)) if installed(&store, &namespace) => {
                    if told.insert((namespace.clone(), name.clone())) {
                        tracing::warn!(
                            config_map = %format_args!("{namespace}/{name}"), reason,
                            "a mesh's configuration may not be read, so what it said before holds, or its defaults: grant `get` on it by name"
                        );
                    }
                }
                Err(error) => {
                    tracing::debug!(config_map = %format_args!("{namespace}/{name}"), %error, "not read");
                    soon |= error.passes_soon();
                }
            }
        }
        tokio::time::sleep(if soon { every / 10 } else { every }).await;
    }
}

fn installed(store: &SharedStore, namespace: &str) -> bool {
    store.read().namespaces().any(|known| &*known.name == namespace)
}

/// The configurations that there may be: one for each revision of Istio that a namespace asks for.
pub(super) fn names<'a>(revisions: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let name = |(namespace, name): (&str, &str)| (namespace.to_owned(), name.to_owned());
    let mut names = vec![name(ISTIO), name(LINKERD)];
    let revisions = revisions.filter(|revision| *revision != "default").take(REVISIONS);
    names.extend(revisions.map(|revision| name((ISTIO.0, &format!("istio-{revision}")))));
    names
}

pub(super) fn decode(text: &[u8]) -> Result<Option<Object>, wire::DecodeError> {
    wire::decode("v1", "ConfigMap", &mut serde_json::Deserializer::from_slice(text))
}

fn take(store: &SharedStore, namespace: &str, name: &str, object: Option<Object>) {
    match object {
        Some(object) => store.write().apply(object),
        None => {
            let key = ObjectKey { kind: Kind::ConfigMap, name: Name::new(namespace, name) };
            let known = store.read().policy().object(&key).is_some();
            if known {
                store.write().delete(&ObjectRef::Policy(key));
            }
        }
    }
}

/// The trust domain of SPIFFE ids, where the command line has none.
fn discover(text: &[u8], trust_domain: &TrustDomain) {
    #[derive(serde::Deserialize)]
    struct ConfigMap {
        #[serde(default)]
        data: std::collections::BTreeMap<String, String>,
    }
    let Ok(ConfigMap { data }) = serde_json::from_slice(text) else { return };
    let name = data.get("mesh").and_then(|mesh| identity::trust_domain_of_mesh_config(mesh));
    if let Some(name) = name
        && trust_domain.discovered(&name)
    {
        tracing::info!(trust_domain = %name, "trust domain discovered in Istio's mesh configuration");
    }
}
