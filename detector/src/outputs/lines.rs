//! Owns the lines: one JSON object a finding or a flow, the same from the daemon and from a replay.
//!
//! A hostile name can neither forge a line nor command a terminal: [`json`] escapes what JSON itself lets pass.

use serde::Serialize;

use crate::{
    cluster::TrustDomain,
    findings::Finding,
    flows::{End, Flow, Timestamp, range},
    outputs::json,
};

/// Turns findings and flows into lines.
#[derive(Clone, Debug)]
pub struct Lines {
    trust_domain: TrustDomain,
}

impl Lines {
    /// Identities are given as SPIFFE ids of `trust_domain`.
    #[must_use]
    pub const fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain }
    }

    /// The name of the trust domain.
    pub(super) fn trust_domain(&self) -> String {
        self.trust_domain.to_string()
    }

    /// The line of a finding.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON, which it always can.
    pub fn finding(&self, finding: &Finding) -> serde_json::Result<Vec<u8>> {
        let Finding { id, severity, flow, why, fix, decided_by } = finding;
        line(&FindingLine {
            kind: "finding",
            time: time(flow.last_seen),
            id: id.as_str(),
            severity: severity.as_str(),
            flow: self.body(flow),
            why,
            fix,
            decided_by: decided_by.as_deref(),
        })
    }

    /// The line of a flow.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON, which it always can.
    pub fn flow(&self, flow: &Flow) -> serde_json::Result<Vec<u8>> {
        line(&FlowLine { kind: "flow", time: time(flow.last_seen), flow: self.body(flow) })
    }

    fn body<'a>(&self, flow: &'a Flow) -> Body<'a> {
        let Flow {
            client,
            server,
            port,
            verdict,
            protocol,
            evidence,
            methods,
            tls,
            offered: _,
            connections,
            with_credentials,
            answered,
            refused,
            first_seen,
            last_seen,
        } = flow;
        Body {
            client: self.end(client),
            server: self.end(server),
            port: *port,
            verdict: verdict.name(),
            protocol: protocol.name(),
            evidence: evidence.names().collect(),
            methods: methods.names().collect(),
            sni: tls.server_names.iter().map(String::as_str).collect(),
            alpn: tls.protocols.iter().map(String::as_str).collect(),
            count: *connections,
            with_credentials: *with_credentials,
            answered: *answered,
            refused: *refused,
            first_seen: time(*first_seen),
            last_seen: time(*last_seen),
        }
    }

    fn end<'a>(&self, end: &'a End) -> EndBody<'a> {
        let mut body = EndBody { address: end.address().to_string(), ..EndBody::default() };
        match end {
            End::Pod { .. } => body.kind = "pod",
            End::Service { service, .. } => {
                body.kind = "service";
                body.service = Some(&service.name.name);
            }
            End::Node { name, .. } => {
                body.kind = "node";
                body.node = Some(name).filter(|name| !name.is_empty()).map(AsRef::as_ref);
            }
            End::Spoofed { owner, .. } => {
                body.kind = "spoofed";
                body.address_of = Some(owner.name.to_string());
            }
            End::External { address } => {
                body.kind = "external";
                body.range = Some(range(*address));
            }
            End::Unknown { address } => {
                body.kind = "unknown";
                body.range = Some(range(*address));
            }
        }
        body.namespace = end.namespace();
        if let Some(pod) = end.pod() {
            // Of a service's pods it is not known which one served; what they share is known.
            if matches!(end, End::Pod { .. } | End::Spoofed { .. }) {
                body.pod = Some(&pod.name.name);
                body.node = pod.node.as_deref();
            }
            body.workload = Some(WorkloadBody { kind: pod.workload.kind.as_str(), name: &pod.workload.name });
            body.service_account = Some(&pod.service_account);
            body.spiffe_id = Some(self.trust_domain.spiffe_id(pod));
            body.mesh = Some(pod.proxy.as_str());
        }
        body
    }
}

/// A value as a line.
pub(crate) fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[derive(Serialize)]
struct FindingLine<'a> {
    kind: &'static str,
    time: String,
    id: &'static str,
    severity: &'static str,
    #[serde(flatten)]
    flow: Body<'a>,
    why: &'a str,
    fix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<&'a str>,
}

#[derive(Serialize)]
struct FlowLine<'a> {
    kind: &'static str,
    time: String,
    #[serde(flatten)]
    flow: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    client: EndBody<'a>,
    server: EndBody<'a>,
    port: u16,
    verdict: &'static str,
    protocol: &'static str,
    evidence: Vec<&'static str>,
    methods: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sni: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alpn: Vec<&'a str>,
    count: u64,
    with_credentials: u64,
    answered: u64,
    refused: u64,
    first_seen: String,
    last_seen: String,
}

#[derive(Default, Serialize)]
struct EndBody<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'static str>,
    address: String,
}

#[derive(Serialize)]
struct WorkloadBody<'a> {
    kind: &'a str,
    name: &'a str,
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time(timestamp: Timestamp) -> String {
    let ns = i128::from(timestamp.0);
    jiff::Timestamp::from_nanosecond(ns)
        .map_or_else(|_out_of_range| "9999-12-31T23:59:59.999Z".to_owned(), |time| format!("{time:.3}"))
}
