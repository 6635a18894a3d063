//! Owns what the detector must say of the scenario's traffic, and what it must not.

use super::{HEALTH, MCP, MCP_TLS, TOKEN};
use crate::record::{End, Record};

/// A flow that must be reported.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The client as `namespace/name`; none for the node.
    pub client: Option<&'static str>,
    /// The server as `namespace/name`.
    pub server: &'static str,
    /// The server's port.
    pub port: u16,
    /// The verdict, with the protocol of plaintext.
    pub verdict: &'static str,
    /// Evidence that must be among what was found.
    pub evidence: &'static [&'static str],
    /// MCP methods that must be among what was found.
    pub methods: &'static [&'static str],
}

impl Flow {
    /// Whether a record reports this flow, with pods and service accounts right on both ends. Every pod of
    /// the scenarios runs as the service account of its own name.
    #[must_use]
    pub fn is(&self, record: &Record) -> bool {
        let named = |end: &End, id: &str| {
            end.pod.as_deref() == Some(id)
                && end.service_account.as_deref() == id.split_once('/').map(|(_, name)| name)
        };
        let has = |list: &str, wanted: &[&str]| {
            let found = record.list(list);
            wanted.iter().all(|item| found.contains(item))
        };
        record.is_flow()
            && record.port == u64::from(self.port)
            && record.verdict() == self.verdict
            && named(&record.server, self.server)
            && self.client.map_or_else(|| record.client.pod.is_none(), |id| named(&record.client, id))
            && has("evidence", self.evidence)
            && has("methods", self.methods)
    }
}

const CURRENT: &[&str] = &["mcp-protocol-version", "mcp-method"];
const CALLED: &[&str] = &["tools/list", "tools/call"];

/// The flows that must be reported.
pub const FLOWS: &[Flow] = &[
    Flow {
        client: Some("mcp-production/gateway"),
        server: "mcp-production/tool-executor",
        port: MCP,
        verdict: "plaintext mcp",
        evidence: &["mcp-protocol-version", "mcp-method", "authorization-bearer"],
        methods: CALLED,
    },
    Flow {
        client: Some("mcp-production/legacy-agent"),
        server: "mcp-production/tool-executor",
        port: MCP,
        verdict: "plaintext mcp",
        evidence: &["mcp-session-id", "authorization-bearer"],
        methods: CALLED,
    },
    Flow {
        client: Some("default/debug-shell"),
        server: "mcp-production/tool-executor",
        port: MCP,
        verdict: "plaintext mcp",
        evidence: CURRENT,
        methods: CALLED,
    },
    Flow {
        client: Some("mcp-production/gateway"),
        server: "mcp-production/secure-tools",
        port: MCP_TLS,
        verdict: "tls",
        evidence: &[],
        methods: &[],
    },
    Flow {
        client: Some("monitoring/uptime"),
        server: "default/web",
        port: HEALTH,
        verdict: "plaintext http1",
        evidence: &["http-request"],
        methods: &[],
    },
    Flow {
        client: None,
        server: "mcp-production/tool-executor",
        port: MCP,
        verdict: "plaintext http1",
        evidence: &["http-request", "kube-probe"],
        methods: &[],
    },
];

/// The findings that must be raised: id, severity, client, server.
pub const FINDINGS: &[(&str, &str, &str, &str)] = &[
    ("plaintext-mcp", "critical", "mcp-production/gateway", "mcp-production/tool-executor"),
    ("plaintext-mcp", "critical", "mcp-production/legacy-agent", "mcp-production/tool-executor"),
    ("plaintext-mcp", "high", "default/debug-shell", "mcp-production/tool-executor"),
    ("unexpected-source", "high", "default/debug-shell", "mcp-production/tool-executor"),
];

/// What the detector has not said yet, one line each.
#[must_use]
pub fn missing(records: &[Record]) -> Vec<String> {
    let flows = FLOWS
        .iter()
        .filter(|flow| !records.iter().any(|record| flow.is(record)))
        .map(|flow| format!("missing: {flow:?}"));
    let findings = FINDINGS
        .iter()
        .filter(|(id, severity, client, server)| {
            !records.iter().any(|record| {
                record.is_finding()
                    && record.text("id") == *id
                    && record.text("severity") == *severity
                    && record.client.name() == *client
                    && record.server.name() == *server
            })
        })
        .map(|(id, severity, client, server)| {
            format!("missing: {severity} finding {id} from {client} to {server}")
        });
    flows.chain(findings).collect()
}

/// What the detector said and should not have, one line each.
#[must_use]
pub fn forbidden(records: &[Record]) -> Vec<String> {
    let wrong = |record: &&Record| {
        let to_tls = record.server.name() == "mcp-production/secure-tools";
        let from_probe = record.server.name() == "default/web" || record.client.pod.is_none();
        let plaintext = record.text("verdict") == "plaintext" || record.text("id").starts_with("plaintext");
        let unexpected = record.text("id") == "unexpected-source"
            && record.client.pod.as_deref() != Some("default/debug-shell");
        (to_tls && plaintext)
            || (from_probe && record.is_finding() && record.text("severity") != "info")
            || (from_probe && record.text("protocol") == "mcp")
            || unexpected
            || record.line.to_string().contains(TOKEN)
    };
    records.iter().filter(wrong).map(|record| format!("wrong: {}", record.line)).collect()
}
