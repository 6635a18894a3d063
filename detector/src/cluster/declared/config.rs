//! Owns the shape of the meshes' configuration: Istio's `mesh` and Linkerd's `values`, YAML in a `ConfigMap`.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{DecodeError, Unknown, WireMeta, part, read_part, wrong};
use crate::policy::{
    PolicyObject,
    istio::MeshConfig,
    linkerd::{Access, LinkerdConfig},
    matching::{Network, Ports},
};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMesh {
    root_namespace: Option<String>,
    trust_domain: Option<String>,
    trust_domain_aliases: Option<Vec<String>>,
    enable_auto_mtls: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireValues {
    identity_trust_domain: Option<String>,
    cluster_networks: Option<String>,
    proxy: WireProxy,
    proxy_init: WireProxyInit,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireProxy {
    default_inbound_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireProxyInit {
    ignore_inbound_ports: Option<String>,
}

/// The configuration in a `ConfigMap`; `None` where it is somebody else's.
pub(super) fn decode(object: &mut Value) -> Result<Option<PolicyObject>, DecodeError> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let istio = name == "istio" || name.starts_with("istio-");
    let linkerd = name == "linkerd-config";
    if !istio && !linkerd {
        return Ok(None);
    }
    // Others in the same namespace are called alike, and have other keys.
    let key = if istio { "mesh" } else { "values" };
    if object.get("data").and_then(|data| data.get(key)).is_none() {
        return Ok(None);
    }
    let metadata: WireMeta = part(object, "metadata")?.0;
    let mut data: BTreeMap<String, String> = part(object, "data")?.0;
    let text = data.remove(key).unwrap_or_default();
    let name = metadata.meta(Unknown(Vec::new()))?.name;
    Ok(Some(if istio {
        PolicyObject::IstioConfig(name, mesh(yaml(&text, "data.mesh")?))
    } else {
        PolicyObject::LinkerdConfig(name, values(yaml(&text, "data.values")?)?)
    }))
}

fn yaml<T: DeserializeOwned>(text: &str, field: &str) -> Result<T, DecodeError> {
    let value: Option<Value> = serde_saphyr::from_str(text).map_err(|error| {
        wrong(field, error.without_snippet().to_string().lines().next().unwrap_or_default())
    })?;
    Ok(read_part(value.unwrap_or(Value::Null), field)?.0)
}

fn mesh(wire: WireMesh) -> MeshConfig {
    let default = MeshConfig::default();
    MeshConfig {
        root_namespace: wire.root_namespace.map_or(default.root_namespace, Into::into),
        trust_domain: wire.trust_domain.map_or(default.trust_domain, Into::into),
        aliases: wire.trust_domain_aliases.into_iter().flatten().map(Into::into).collect(),
        auto_mtls: wire.enable_auto_mtls.unwrap_or(true),
    }
}

fn values(wire: WireValues) -> Result<LinkerdConfig, DecodeError> {
    let default = LinkerdConfig::default();
    let networks = |text: String| -> Result<Box<[Network]>, DecodeError> {
        let parse = |network: &str| {
            network.trim().parse().map_err(|error| wrong("data.values.clusterNetworks", format!("{error}")))
        };
        text.split(',').map(parse).collect()
    };
    let policy = |name: String| {
        Access::read(&name)
            .ok_or_else(|| wrong("data.values.proxy.defaultInboundPolicy", format!("{name:?} is no policy")))
    };
    Ok(LinkerdConfig {
        trust_domain: wire.identity_trust_domain.map_or(default.trust_domain, Into::into),
        default_policy: wire.proxy.default_inbound_policy.map_or(Ok(default.default_policy), policy)?,
        cluster_networks: wire.cluster_networks.map_or(Ok(default.cluster_networks), networks)?,
        ignore_inbound: wire
            .proxy_init
            .ignore_inbound_ports
            .map_or(default.ignore_inbound, |text| Ports::read(&text)),
    })
}
