//! Owns the reading of the API's answers, by the names that the lines are written with.

use serde::Deserialize;

/// One page of flows.
#[derive(Debug, Deserialize)]
pub struct Flows {
    /// The node that answered.
    pub node: String,
    /// Where to go on.
    pub next: Option<u64>,
    /// The rows.
    pub flows: Vec<Row>,
}

/// One page of findings.
#[derive(Debug, Deserialize)]
pub struct Findings {
    /// The node that answered.
    pub node: String,
    /// Where to go on.
    pub next: Option<u64>,
    /// The rows.
    pub findings: Vec<Row>,
}

/// A flow or a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Who opened the connections.
    pub client: End,
    /// Who accepted them.
    pub server: End,
    /// The server's port.
    pub port: u16,
    /// What the connections are.
    pub verdict: String,
    /// The protocol of plaintext ones.
    pub protocol: String,
    /// How many there were.
    pub count: u64,
    /// How many of them carried credentials.
    pub with_credentials: u64,
    /// When the last was seen.
    pub last_seen: String,
    /// MCP methods.
    pub methods: Vec<String>,
    /// Of a finding: which.
    pub id: String,
    /// Of a finding: how bad it is.
    pub severity: String,
    /// Of a finding: why it matters.
    pub why: String,
    /// Of a finding: what to do.
    pub fix: String,
}

/// One end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct End {
    /// The namespace of a pod or service.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// The address.
    pub address: String,
}

impl End {
    /// What to call it: `namespace/pod`, or what else is known.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { namespace, pod, service, node, address } = self;
        match (namespace, pod.as_ref().or(service.as_ref())) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            _ => node.as_ref().unwrap_or(address).clone(),
        }
    }
}
