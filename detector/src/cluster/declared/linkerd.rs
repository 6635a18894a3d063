//! Owns the shape of Linkerd's objects.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{DecodeError, Selector, Unknown, WireMeta, WireSelector, read_part, wrong};
use crate::{
    cluster::objects::Name,
    policy::{
        PolicyObject,
        linkerd::{
            Access, AuthorizationPolicy, Client, MeshTlsAuthentication, NetworkAuthentication, Port, Server,
            ServerAuthorization, Target,
            authorization::{Networks, Reference},
        },
        matching::{Network, Text},
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireServer {
    #[serde(default)]
    pod_selector: Option<WireSelector>,
    #[serde(default)]
    external_workload_selector: Option<WireSelector>,
    port: WirePort,
    #[serde(default)]
    proxy_protocol: Option<String>,
    #[serde(default)]
    access_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a port's number or name")]
enum WirePort {
    Number(u16),
    Name(String),
}

pub(super) fn server(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireServer, _) = read_part(spec, "spec")?;
    if wire.pod_selector.is_none() && wire.external_workload_selector.is_none() {
        return Err(wrong("spec.podSelector", "missing"));
    }
    let access = match wire.access_policy.as_deref() {
        None => Access::Deny,
        Some(name) => Access::read(name)
            .ok_or_else(|| wrong("spec.accessPolicy", format!("{name:?} is no access policy")))?,
    };
    Ok(PolicyObject::Server(Server {
        labels: metadata.labels(),
        meta: metadata.meta(unknown)?,
        pods: wire.pod_selector.map(Into::into),
        port: match wire.port {
            WirePort::Number(number) => Port::Number(number),
            // A number between quotes is a number: some tools write it so.
            WirePort::Name(name) => name.parse().map_or_else(|_name| Port::Name(name.into()), Port::Number),
        },
        access,
        protocol: wire.proxy_protocol.unwrap_or_else(|| "unknown".to_owned()).into(),
    }))
}

#[derive(Deserialize)]
struct WireServerAuthorization {
    server: WireServerReference,
    client: WireClient,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireServerReference {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    selector: Option<WireSelector>,
}

// A field that we do not know could only narrow whom it admits, so it is refused.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WireClient {
    networks: Option<Vec<WireNetwork>>,
    unauthenticated: bool,
    #[serde(rename = "meshTLS")]
    mesh_tls: Option<WireMeshTls>,
}

#[derive(Deserialize)]
struct WireNetwork {
    cidr: String,
    #[serde(default)]
    except: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct WireMeshTls {
    #[serde(rename = "unauthenticatedTLS")]
    unauthenticated_tls: bool,
    identities: Option<Vec<String>>,
    service_accounts: Option<Vec<WireAccount>>,
}

#[derive(Deserialize)]
struct WireAccount {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

fn networks(wire: Vec<WireNetwork>, field: &str) -> Result<Networks, DecodeError> {
    let parse = |text: &str| text.parse::<Network>().map_err(|error| wrong(field, format!("{error}")));
    let read = |network: WireNetwork| {
        let except = network.except.unwrap_or_default();
        Ok((parse(&network.cidr)?, except.iter().map(|text| parse(text)).collect::<Result<_, _>>()?))
    };
    wire.into_iter().map(read).collect::<Result<_, _>>().map(Networks)
}

pub(super) fn server_authorization(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireServerAuthorization, _) = read_part(spec, "spec")?;
    let meta = metadata.meta(unknown)?;
    let WireServerAuthorization { server, client } = wire;
    if server.name.is_none() && server.selector.is_none() {
        return Err(wrong("spec.server", "neither name nor selector"));
    }
    let asked = match (client.unauthenticated, client.mesh_tls) {
        (true, _) => Client::Unauthenticated,
        (false, Some(tls)) if tls.unauthenticated_tls => Client::UnauthenticatedTls,
        (false, Some(tls)) => Client::Mesh {
            identities: tls.identities.iter().flatten().map(|text| Text::from(text.as_str())).collect(),
            service_accounts: tls
                .service_accounts
                .into_iter()
                .flatten()
                .map(|account| name(account.name, account.namespace, &meta.name.namespace))
                .collect(),
        },
        // Without a word on clients nobody is admitted.
        (false, None) => Client::Mesh { identities: Box::default(), service_accounts: Box::default() },
    };
    Ok(PolicyObject::ServerAuthorization(ServerAuthorization {
        meta,
        server: server.name.map(Into::into),
        selector: server.selector.map(Selector::from),
        client: asked,
        networks: client.networks.map(|list| networks(list, "spec.client.networks")).transpose()?,
    }))
}

#[derive(Deserialize)]
struct WireReference {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAuthorizationPolicy {
    target_ref: WireReference,
    #[serde(default)]
    required_authentication_refs: Option<Vec<WireReference>>,
}

fn name(name: String, namespace: Option<String>, own: &Arc<str>) -> Name {
    Name { namespace: namespace.map_or_else(|| Arc::clone(own), Into::into), name: name.into() }
}

pub(super) fn authorization_policy(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireAuthorizationPolicy, Unknown) = read_part(spec, "spec")?;
    let meta = metadata.meta(unknown.without(&["group"]))?;
    let target = match &*wire.target_ref.kind {
        "Server" => Target::Server(wire.target_ref.name.into()),
        "Namespace" => Target::Namespace,
        "HTTPRoute" | "GRPCRoute" => {
            Target::Route(format!("{} {}", wire.target_ref.kind, wire.target_ref.name).into())
        }
        kind => Target::Other(kind.into()),
    };
    let required = wire.required_authentication_refs.into_iter().flatten().map(|reference| Reference {
        kind: reference.kind.into(),
        name: name(reference.name, reference.namespace, &meta.name.namespace),
    });
    Ok(PolicyObject::LinkerdAuthorizationPolicy(AuthorizationPolicy {
        required: required.collect(),
        target,
        meta,
    }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMeshTlsAuthentication {
    identities: Option<Vec<String>>,
    identity_refs: Option<Vec<WireReference>>,
}

pub(super) fn mesh_tls_authentication(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireMeshTlsAuthentication, Unknown) = read_part(spec, "spec")?;
    let meta = metadata.meta(unknown.without(&["group"]))?;
    let (mut service_accounts, mut namespaces) = (Vec::new(), Vec::new());
    for (index, reference) in wire.identity_refs.into_iter().flatten().enumerate() {
        match &*reference.kind {
            "ServiceAccount" => {
                service_accounts.push(name(reference.name, reference.namespace, &meta.name.namespace));
            }
            "Namespace" => namespaces.push(reference.name.into()),
            kind => {
                let field = format!("spec.identityRefs.{index}.kind");
                return Err(wrong(&field, format!("{kind:?}: expected ServiceAccount or Namespace")));
            }
        }
    }
    Ok(PolicyObject::MeshTlsAuthentication(MeshTlsAuthentication {
        meta,
        identities: wire.identities.iter().flatten().map(|text| Text::from(text.as_str())).collect(),
        service_accounts: service_accounts.into(),
        namespaces: namespaces.into(),
    }))
}

#[derive(Deserialize)]
struct WireNetworkAuthentication {
    networks: Vec<WireNetwork>,
}

pub(super) fn network_authentication(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireNetworkAuthentication, _) = read_part(spec, "spec")?;
    Ok(PolicyObject::NetworkAuthentication(NetworkAuthentication {
        meta: metadata.meta(unknown)?,
        networks: networks(wire.networks, "spec.networks")?,
    }))
}
