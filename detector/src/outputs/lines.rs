//! Owns the lines: one JSON object a finding or a flow, the same from the daemon and from a replay.
//!
//! A hostile name can neither forge a line nor command a terminal: [`json`] escapes what JSON itself lets pass.

use std::{borrow::Cow, collections::BTreeSet};

use serde::Serialize;

use crate::{
    cluster::TrustDomain,
    findings::Finding,
    flows::{End, Flow, Timestamp, range},
    outputs::{
        json,
        rows::{EndRow, FlowRow, WorkloadRow},
    },
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
            flow: self.row(flow),
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
        line(&FlowLine { kind: "flow", time: time(flow.last_seen), flow: self.row(flow) })
    }

    /// The row of a flow.
    pub(crate) fn row<'a>(&self, flow: &'a Flow) -> FlowRow<'a> {
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
        let borrowed =
            |texts: &'a BTreeSet<String>| texts.iter().map(|text| Cow::Borrowed(text.as_str())).collect();
        FlowRow {
            client: self.end(client),
            server: self.end(server),
            port: *port,
            verdict: verdict.name().into(),
            protocol: protocol.name().into(),
            evidence: evidence.names().map(Cow::Borrowed).collect(),
            methods: methods.names().map(Cow::Borrowed).collect(),
            sni: borrowed(&tls.server_names),
            alpn: borrowed(&tls.protocols),
            count: *connections,
            with_credentials: *with_credentials,
            answered: *answered,
            refused: *refused,
            first_seen: (*first_seen).into(),
            last_seen: (*last_seen).into(),
        }
    }

    fn end<'a>(&self, end: &'a End) -> EndRow<'a> {
        let mut body = EndRow { address: end.address().to_string(), ..EndRow::default() };
        match end {
            End::Pod { .. } => body.kind = "pod".into(),
            End::Service { service, .. } => {
                body.kind = "service".into();
                body.service = Some((&*service.name.name).into());
            }
            End::Node { name, .. } => {
                body.kind = "node".into();
                body.node = Some(name).filter(|name| !name.is_empty()).map(|name| (&**name).into());
            }
            End::Spoofed { owner, .. } => {
                body.kind = "spoofed".into();
                body.address_of = Some(owner.name.to_string());
            }
            End::External { address } => {
                body.kind = "external".into();
                body.range = Some(range(*address).into());
            }
            End::Unknown { address } => {
                body.kind = "unknown".into();
                body.range = Some(range(*address).into());
            }
        }
        body.namespace = end.namespace().map(Cow::Borrowed);
        if let Some(pod) = end.pod() {
            // Of a service's pods it is not known which one served; what they share is known.
            if matches!(end, End::Pod { .. } | End::Spoofed { .. }) {
                body.pod = Some((&*pod.name.name).into());
                body.node = pod.node.as_deref().map(Cow::Borrowed);
            }
            body.workload = Some(WorkloadRow {
                kind: pod.workload.kind.as_str().into(),
                name: (&*pod.workload.name).into(),
            });
            body.service_account = Some((&*pod.service_account).into());
            body.spiffe_id = Some(self.trust_domain.spiffe_id(pod));
            body.mesh = Some(pod.proxy.as_str().into());
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
    flow: FlowRow<'a>,
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
    flow: FlowRow<'a>,
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time(timestamp: Timestamp) -> String {
    let ns = i128::from(timestamp.0);
    jiff::Timestamp::from_nanosecond(ns)
        .map_or_else(|_out_of_range| "9999-12-31T23:59:59.999Z".to_owned(), |time| format!("{time:.3}"))
}
