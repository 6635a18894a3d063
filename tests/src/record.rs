//! Owns the reading of the daemon's output lines: flows and findings, as a user's program would read them.

use serde_json::Value;

/// One end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The pod as `namespace/name`, if the end is a pod.
    pub pod: Option<String>,
    /// Its service account.
    pub service_account: Option<String>,
    /// An end that is no pod: its service, its node, or its address.
    pub other: String,
}

impl End {
    fn read(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let pod = text("namespace").zip(text("pod")).map(|(namespace, pod)| format!("{namespace}/{pod}"));
        let service =
            text("namespace").zip(text("service")).map(|(namespace, name)| format!("{namespace}/{name}"));
        let other = service.or_else(|| text("node")).or_else(|| text("address")).unwrap_or_default();
        Self { pod, service_account: text("service_account"), other }
    }

    /// What to call the end in a table.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.other)
    }
}

/// One line of the daemon's standard output.
#[derive(Clone, Debug)]
pub struct Record {
    /// The line, for everything that has no field here.
    pub line: Value,
    /// The client.
    pub client: End,
    /// The server.
    pub server: End,
    /// The server's port.
    pub port: u64,
}

impl Record {
    /// Reads a line; nothing if it is not JSON.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let end = |name: &str| line.get(name).map(End::read).unwrap_or_default();
        let (client, server) = (end("client"), end("server"));
        let port = line.get("port").and_then(Value::as_u64).unwrap_or_default();
        Some(Self { line, client, server, port })
    }

    /// A text field; empty if there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.line.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A list of texts; empty if there is none.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&str> {
        let items = self.line.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether this is a flow.
    #[must_use]
    pub fn is_flow(&self) -> bool {
        self.text("kind") == "flow"
    }

    /// Whether this is a finding.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        self.text("kind") == "finding"
    }

    /// The verdict, with the protocol of plaintext: `tls`, `plaintext mcp`.
    #[must_use]
    pub fn verdict(&self) -> String {
        match self.text("protocol") {
            "" | "none" => self.text("verdict").to_owned(),
            protocol => format!("{} {protocol}", self.text("verdict")),
        }
    }
}
