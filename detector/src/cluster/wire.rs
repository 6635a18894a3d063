//! Owns the shape of Kubernetes objects on the wire, trimmed to the fields that the store needs, and their
//! way into [`super::objects`].
//!
//! A field that is not read is not decoded: a pod of 20 KB becomes some hundred bytes at once, and a field
//! that a newer Kubernetes adds cannot fail us. A field that is read and has the wrong type is an error that
//! names its path.

mod expected_sources;

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    objects::{
        EndpointSlice, Name, Namespace, Node, Object, Owner, OwnerKind, Pod, PodTemplate, Service,
        ServiceAccount, ServicePort, TargetPort,
    },
    selector::{Labels, Selector},
    workload::Workload,
};
use crate::{
    policy::{PodMesh, PodParts, pod::ANNOTATIONS},
    printable::{fit, printable, printed},
};

/// Why a document is no object for the store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field has the wrong type or is missing.
    #[error("{field}: {why}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Turns an object into what the store holds of it; `None` for a kind that it holds nothing of.
///
/// # Errors
///
/// A field that is read is missing or wrong.
pub fn decode<'de, D: Deserializer<'de>>(
    api_version: &str,
    kind: &str,
    object: D,
) -> Result<Option<Object>, DecodeError> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    Ok(Some(match (group, kind) {
        ("", "Pod") => read::<WirePod, D>(object)?.into_object()?,
        ("", "Service") => read::<WireService, D>(object)?.into_object()?,
        ("", "Node") => read::<WireNode, D>(object)?.into_object()?,
        ("", "Namespace") => read::<WireNamed, D>(object)?.into_namespace()?,
        ("", "ServiceAccount") => read::<WireNamed, D>(object)?.into_service_account()?,
        ("discovery.k8s.io", "EndpointSlice") => read::<WireEndpointSlice, D>(object)?.into_object()?,
        ("apps", "ReplicaSet") => read::<WireNamed, D>(object)?.into_owner(OwnerKind::ReplicaSet)?,
        ("batch", "Job") => read::<WireNamed, D>(object)?.into_owner(OwnerKind::Job)?,
        ("plainsight.dev", "ExpectedSources") => {
            if api_version != "plainsight.dev/v1alpha1" {
                return Err(field(
                    "apiVersion",
                    format!("{api_version:?} is not known, plainsight.dev/v1alpha1 is"),
                ));
            }
            read::<expected_sources::WireExpectedSources, D>(object)?.into_object()?
        }
        _ => {
            if !super::declared::is_known(group, kind) {
                return Ok(None);
            }
            let mut object: Value = read(object)?;
            let policy = super::declared::decode(api_version, kind, &mut object)?;
            return Ok(policy.map(|object| Object::Policy(Box::new(object))));
        }
    }))
}

/// The pods that a workload would run, as one pod without addresses; `None` for what is no workload.
pub(super) fn template(
    api_version: &str,
    kind: &str,
    members: &serde_json::Map<String, Value>,
) -> Result<Option<Pod>, DecodeError> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let path = match (group, kind) {
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job") => "/spec/template",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return Ok(None),
    };
    let whole = Value::Object(members.clone());
    let metadata: Meta = match members.get("metadata") {
        Some(metadata) => read(metadata.clone())?,
        None => Meta::default(),
    };
    let name = metadata.name()?;
    let template: WireTemplate = match whole.pointer(path) {
        Some(template) => read(template.clone())?,
        // Not a whole one: nothing can be said of it.
        None => return Ok(None),
    };
    let pod = WirePod {
        metadata: Meta {
            name: name.name.to_string(),
            namespace: Some(name.namespace.to_string()),
            uid: None,
            owner_references: None,
            ..template.metadata
        },
        spec: template.spec,
        status: WirePodStatus::default(),
    };
    let Object::Pod(mut pod) = pod.into_object()? else { return Ok(None) };
    let workload = Workload { kind: kind.into(), name: Arc::clone(&name.name) };
    pod.template = Arc::new(PodTemplate { workload, ..PodTemplate::clone(&pod.template) });
    Ok(Some(pod))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireTemplate {
    metadata: Meta,
    spec: WirePodSpec,
}

fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(object: D) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(object)
        .map_err(|error| field(&error.path().to_string(), error.inner().to_string()))
}

/// A name that an object can have. The API server admits less; what it could not hold in a path, and what would
/// forge a line of a manifest that is proposed, comes from a file and is nobody's name.
fn named<'a>(at: &str, name: &'a str) -> Result<&'a str, DecodeError> {
    let whole = matches!(printable(name), Cow::Borrowed(_)) && !name.contains(['/', '%']);
    if !whole || name.len() > 253 {
        return Err(field(at, printed(format_args!("{:?} is no name of an object", fit(name, 64)))));
    }
    Ok(name)
}

fn field(field: &str, why: String) -> DecodeError {
    DecodeError::Field { field: field.to_owned(), why }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize)]
struct OwnerReference {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

impl Meta {
    /// Namespace and name; an object without a namespace is in `default`, as kubectl would put it.
    fn name(&self) -> Result<Name, DecodeError> {
        let namespace = named("metadata.namespace", self.namespace.as_deref().unwrap_or("default"))?;
        Ok(Name::new(namespace, self.bare_name()?))
    }

    fn bare_name(&self) -> Result<&str, DecodeError> {
        if self.name.is_empty() {
            return Err(field("metadata.name", "missing".to_owned()));
        }
        named("metadata.name", &self.name)
    }

    fn labels(&self) -> Labels {
        Labels::from_iter(self.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// Annotations that policy heeds.
    fn annotations(&self) -> Labels {
        let all = self.annotations.iter().flatten();
        let kept =
            all.filter(|(key, _)| ANNOTATIONS.contains(&key.as_str()) || key.starts_with("plainsight.dev/"));
        Labels::from_iter(kept.map(|(key, value)| (key.as_str(), value.as_str())))
    }

    fn controller(&self) -> Option<(&str, &str)> {
        let owners = self.owner_references.as_deref()?;
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        Some((&owner.kind, &owner.name))
    }
}

#[derive(Deserialize)]
struct WirePod {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: WirePodSpec,
    #[serde(default)]
    status: WirePodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePodSpec {
    service_account_name: Option<String>,
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<WireContainer>>,
    init_containers: Option<Vec<WireContainer>>,
}

#[derive(Deserialize)]
struct WireContainer {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ports: Option<Vec<WireContainerPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainerPort {
    #[serde(default)]
    name: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<WirePodIp>>,
}

#[derive(Deserialize)]
struct WirePodIp {
    ip: IpAddr,
}

impl WirePod {
    fn into_object(self) -> Result<Object, DecodeError> {
        let Self { metadata, spec, status } = self;
        let name = metadata.name()?;
        let labels = metadata.labels();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let mut addresses: Vec<IpAddr> =
            status.pod_ips.into_iter().flatten().map(|WirePodIp { ip }| ip).collect();
        if let Some(text) = status.pod_ip.filter(|text| !text.is_empty()) {
            let address = parse_address("status.podIP", &text)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if ended {
            addresses.clear();
        }
        let (init_containers, containers) =
            (spec.init_containers.unwrap_or_default(), spec.containers.unwrap_or_default());
        fn names(containers: &[WireContainer]) -> Vec<&str> {
            containers.iter().map(|container| container.name.as_str()).collect()
        }
        let annotations = metadata.annotations();
        let proxy = Arc::new(PodMesh::read(PodParts {
            labels: &labels,
            annotations: &annotations,
            containers: &names(&containers),
            init_containers: &names(&init_containers),
            host_network: spec.host_network.unwrap_or(false),
        }));
        // A long text that says no more than the proxy does.
        let annotations = annotations.iter().filter(|(key, _)| *key != "sidecar.istio.io/status").collect();
        let workload = Workload::of_pod(metadata.controller(), &name.name, &labels);
        let named_ports = init_containers
            .into_iter()
            .chain(containers)
            .flat_map(|container| container.ports.into_iter().flatten())
            .filter_map(|port| Some((port.name?.into(), port.container_port)))
            .collect();
        let optional = |at, text: &'_ Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => named(at, text).map(|name| Some(name.to_owned())),
        };
        let node = optional("spec.nodeName", &spec.node_name)?;
        let account = optional("spec.serviceAccountName", &spec.service_account_name)?;
        let uid = match &metadata.uid {
            Some(uid) => uid.as_str().into(),
            None => name.to_string().into(),
        };
        Ok(Object::Pod(Pod {
            uid,
            name,
            node: node.map(Into::into),
            addresses: addresses.into_iter().collect(),
            template: Arc::new(PodTemplate {
                workload,
                service_account: account.as_deref().unwrap_or("default").into(),
                host_network: spec.host_network.unwrap_or(false),
                labels,
                annotations,
                named_ports,
                proxy,
            }),
        }))
    }
}

#[derive(Deserialize)]
struct WireService {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: WireServiceSpec,
    #[serde(default)]
    status: WireServiceStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<WireServicePort>>,
    selector: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireServicePort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    port: u16,
    #[serde(default)]
    app_protocol: Option<String>,
    #[serde(default)]
    node_port: Option<u16>,
    #[serde(default)]
    target_port: Option<WireTargetPort>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireTargetPort {
    Number(u16),
    Name(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireServiceStatus {
    load_balancer: WireLoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireLoadBalancer {
    ingress: Option<Vec<WireIngress>>,
}

#[derive(Deserialize)]
struct WireIngress {
    #[serde(default)]
    ip: Option<String>,
}

impl WireService {
    fn into_object(self) -> Result<Object, DecodeError> {
        let Self { metadata, spec, status } = self;
        let mut addresses = Vec::new();
        let listed = [
            ("spec.clusterIP", spec.cluster_ip.into_iter().collect()),
            ("spec.clusterIPs", spec.cluster_ips.unwrap_or_default()),
            ("spec.externalIPs", spec.external_ips.unwrap_or_default()),
            (
                "status.loadBalancer.ingress",
                status.load_balancer.ingress.into_iter().flatten().filter_map(|ingress| ingress.ip).collect(),
            ),
        ];
        for (path, texts) in listed {
            // A headless service has no address of its own, and says so with a word.
            for text in texts.iter().filter(|text| !text.is_empty() && *text != "None") {
                let address = parse_address(path, text)?;
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        let ports = spec
            .ports
            .into_iter()
            .flatten()
            .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
            .map(|port| ServicePort {
                name: port.name.unwrap_or_default().into(),
                port: port.port,
                app_protocol: port.app_protocol.map(Into::into),
                node_port: port.node_port.filter(|port| *port != 0),
                target: match port.target_port {
                    None | Some(WireTargetPort::Number(0)) => TargetPort::Number(port.port),
                    Some(WireTargetPort::Number(number)) => TargetPort::Number(number),
                    Some(WireTargetPort::Name(name)) => TargetPort::Name(name.into()),
                },
            })
            .collect();
        Ok(Object::Service(Service {
            name: metadata.name()?,
            addresses: addresses.into(),
            ports,
            selector: spec
                .selector
                .filter(|labels| !labels.is_empty())
                .map(|labels| Selector { match_labels: Labels::from_iter(labels), ..Selector::default() }),
        }))
    }
}

#[derive(Deserialize)]
struct WireEndpointSlice {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    endpoints: Option<Vec<WireEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<WireEndpointPort>>,
}

#[derive(Deserialize)]
struct WireEndpoint {
    addresses: Vec<String>,
}

#[derive(Deserialize)]
struct WireEndpointPort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

impl WireEndpointSlice {
    fn into_object(self) -> Result<Object, DecodeError> {
        let Self { metadata, endpoints, ports } = self;
        let service = metadata.labels().value("kubernetes.io/service-name").unwrap_or_default().into();
        Ok(Object::EndpointSlice(EndpointSlice {
            name: metadata.name()?,
            service,
            // Slices of address type FQDN hold names; nothing on the wire bears them.
            addresses: endpoints
                .into_iter()
                .flatten()
                .flat_map(|endpoint| endpoint.addresses)
                .filter_map(|address| address.parse().ok())
                .collect(),
            ports: ports
                .into_iter()
                .flatten()
                .filter_map(|port| Some((port.name.unwrap_or_default().into(), port.port?)))
                .collect(),
        }))
    }
}

#[derive(Deserialize)]
struct WireNode {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    status: WireNodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireNodeStatus {
    addresses: Option<Vec<WireNodeAddress>>,
}

#[derive(Deserialize)]
struct WireNodeAddress {
    address: String,
}

impl WireNode {
    fn into_object(self) -> Result<Object, DecodeError> {
        let Self { metadata, status } = self;
        Ok(Object::Node(Node {
            name: metadata.bare_name()?.into(),
            // Host names stand in the same list.
            addresses: status
                .addresses
                .into_iter()
                .flatten()
                .filter_map(|address| address.address.parse().ok())
                .collect(),
        }))
    }
}

/// An object that is known by its metadata alone.
#[derive(Deserialize)]
struct WireNamed {
    #[serde(default)]
    metadata: Meta,
}

impl WireNamed {
    fn into_namespace(self) -> Result<Object, DecodeError> {
        let name = self.metadata.bare_name()?.into();
        let (labels, annotations) = (self.metadata.labels(), self.metadata.annotations());
        Ok(Object::Namespace(Namespace { name, labels, annotations }))
    }

    fn into_service_account(self) -> Result<Object, DecodeError> {
        Ok(Object::ServiceAccount(ServiceAccount { name: self.metadata.name()? }))
    }

    fn into_owner(self, kind: OwnerKind) -> Result<Object, DecodeError> {
        let name = self.metadata.name()?;
        let workload = self.metadata.controller().and_then(|(kind, owner)| {
            let above = Workload { kind: kind.into(), name: owner.into() };
            // A large cluster has hundreds of thousands of old replica sets whose names say it all.
            let hashed = Workload::of_pod(Some(("ReplicaSet", &name.name)), "", &self.metadata.labels());
            (above != hashed).then_some(above)
        });
        Ok(Object::Owner(Owner { kind, name, workload }))
    }
}

fn parse_address(path: &str, text: &str) -> Result<IpAddr, DecodeError> {
    text.parse().map_err(|_not_an_address| field(path, format!("{text:?} is no IP address")))
}

#[cfg(test)]
mod tests;
