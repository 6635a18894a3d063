//! Owns what was seen of traffic, whoever saw it.

use std::{collections::HashMap, fmt};

use crate::{
    audit::Inventory,
    cluster::objects::{Name, Pod},
    flows::Timestamp,
    policy::target_number,
};

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Who saw it.
    pub sources: Vec<Source>,
    /// Who called whom.
    pub calls: Vec<Call>,
}

/// A daemon, or a Prometheus that has the metrics of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// What to call it.
    pub name: String,
    /// Since when it has observed all that it should, without a gap.
    pub since: Option<Timestamp>,
    /// Why it may not have everything, where it may not.
    pub gap: Option<String>,
    /// The pods that it is to observe, each with the reason where it does not; `None` where it says nothing
    /// of pods.
    pub pods: Option<HashMap<Name, Option<String>>>,
}

/// Connections of one client to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who calls.
    pub client: Client,
    /// The namespace of the server.
    pub server_namespace: String,
    /// The kind of the server's workload, where it is known.
    pub server_kind: Option<String>,
    /// The server's workload.
    pub server_workload: String,
    /// The port, where it is known.
    pub port: Option<u16>,
    /// The service whose port that is; `None` where it is the pod's.
    pub service: Option<String>,
    /// What is spoken.
    pub traffic: Traffic,
    /// Whether it says that it is a kubelet's probe.
    pub probe: bool,
    /// Whether nothing is known of how the connections began.
    pub met_in_the_middle: bool,
    /// How many connections there were, where it is known.
    pub connections: Option<u64>,
    /// When it was last seen; `None` where all that is known is that it was within the time asked for.
    pub last_seen: Option<Timestamp>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A pod of a workload.
    Workload {
        /// Its namespace.
        namespace: String,
        /// The workload's name.
        workload: String,
        /// Its service account.
        service_account: String,
        /// Whether it is in a mesh, where that is known.
        meshed: Option<bool>,
    },
    /// A node: the kubelet, or a pod that shares the node's network.
    Node {
        /// Its name, or its address.
        name: String,
    },
    /// Somebody outside of the cluster, or nobody that is known.
    Elsewhere {
        /// What is known of it.
        name: String,
    },
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { namespace, workload, service_account, .. } => {
                write!(f, "{namespace}/{workload} (service account {service_account})")
            }
            Self::Node { name } if name.is_empty() => f.write_str("a node"),
            Self::Node { name } => write!(f, "node {name}"),
            Self::Elsewhere { name } => f.write_str(name),
        }
    }
}

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Mutual TLS of a mesh.
    MeshMtls,
    /// Other TLS.
    Tls,
    /// Plaintext, with its protocol.
    Plaintext(String),
    /// Nothing that is known, and no TLS.
    Opaque,
}

impl Traffic {
    /// What a verdict and a protocol mean; `None` where nothing was said yet.
    #[must_use]
    pub fn of(verdict: &str, protocol: &str) -> Option<Self> {
        Some(match verdict {
            "mesh-mtls" => Self::MeshMtls,
            "tls" => Self::Tls,
            "plaintext" => Self::Plaintext(protocol.to_owned()),
            "opaque" => Self::Opaque,
            _ => return None,
        })
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::MeshMtls => "mesh-mtls",
            Self::Tls => "tls",
            Self::Plaintext(protocol) if protocol.is_empty() => "plaintext",
            Self::Plaintext(protocol) => protocol,
            Self::Opaque => "opaque",
        }
    }
}

impl Observation {
    /// Whether MCP was seen going to a workload.
    #[must_use]
    pub fn speaks_mcp(&self, pod: &Pod) -> bool {
        self.calls.iter().any(|call| {
            call.traffic == Traffic::Plaintext("mcp".to_owned())
                && call.server_namespace == *pod.name.namespace
                && call.server_workload == *pod.workload.name
        })
    }

    /// What is to be known of the sources.
    pub(super) fn notes(&self) -> Vec<String> {
        let note = |source: &Source| source.gap.as_ref().map(|gap| format!("{}: {gap}", source.name));
        self.sources.iter().filter_map(note).collect()
    }
}

impl Call {
    /// The port of the pod that was called, where it can be known.
    pub(super) fn port_of(&self, pod: &Pod, inventory: &Inventory) -> Option<u16> {
        let Some(service) = &self.service else { return self.port };
        let service = inventory.services_of(pod).find(|known| *known.name.name == **service)?;
        let port = service.ports.iter().find(|known| Some(known.port) == self.port)?;
        target_number(&port.target, pod)
    }
}
