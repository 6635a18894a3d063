//! Owns the lines on standard output: one JSON object a finding and, if asked for, one a flow.
//!
//! Lines go through a bounded queue to a thread of their own, so that a reader that stalls costs lines,
//! counted, and never detection. JSON escapes every control character, so a hostile name cannot forge a line.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    findings::Finding,
    flows::{End, Flow, Timestamp},
};

/// Writes findings and flows.
#[derive(Debug)]
pub struct LineLog {
    trust_domain: String,
    queue: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
    writer: thread::JoinHandle<io::Result<()>>,
}

impl LineLog {
    /// Lines that wait for the reader of standard output before any is lost.
    pub const QUEUE: usize = 4096;

    /// Starts the thread that writes to `out`. Identities are given as SPIFFE ids of `trust_domain`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(trust_domain: String, mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel::<Vec<u8>>(Self::QUEUE);
        let writer = thread::Builder::new().name("lines".to_owned()).spawn(move || {
            while let Ok(line) = lines.recv() {
                out.write_all(&line)?;
                // What waits already goes out in the same breath.
                while let Ok(line) = lines.try_recv() {
                    out.write_all(&line)?;
                }
                out.flush()?;
            }
            Ok(())
        })?;
        Ok(Self { trust_domain, queue, lost: Arc::default(), writer })
    }

    /// Writes a finding.
    pub fn finding(&self, finding: &Finding) {
        let Finding { id, severity, flow, why, fix, decided_by } = finding;
        self.write(&FindingLine {
            kind: "finding",
            time: time(flow.last_seen),
            id: id.as_str(),
            severity: severity.as_str(),
            flow: self.body(flow),
            why,
            fix,
            decided_by: decided_by.as_deref(),
        });
    }

    /// Writes a flow.
    pub fn flow(&self, flow: &Flow) {
        self.write(&FlowLine { kind: "flow", time: time(flow.last_seen), flow: self.body(flow) });
    }

    /// Lines that were lost because nobody read them.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Lets the queue run out, for `grace` at most.
    pub fn finish(self, grace: Duration) {
        let Self { queue, writer, .. } = self;
        drop(queue);
        let until = Instant::now() + grace;
        while !writer.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn write(&self, line: &impl Serialize) {
        let Ok(mut bytes) = serde_json::to_vec(line) else { return self.lose() };
        bytes.push(b'\n');
        match self.queue.try_send(bytes) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lose(),
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
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
            tls: _,
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
            End::External { .. } => body.kind = "external",
            End::Unknown { .. } => body.kind = "unknown",
        }
        body.namespace = end.namespace();
        if let Some(pod) = end.pod() {
            // Of a service's pods it is not known which one served; what they share is known.
            if matches!(end, End::Pod { .. }) {
                body.pod = Some(&pod.name.name);
                body.node = pod.node.as_deref();
            }
            body.workload = Some(WorkloadBody { kind: pod.workload.kind.as_str(), name: &pod.workload.name });
            body.service_account = Some(&pod.service_account);
            body.spiffe_id = Some(format!(
                "spiffe://{}/ns/{}/sa/{}",
                self.trust_domain, pod.name.namespace, pod.service_account
            ));
        }
        body
    }
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
    node: Option<&'a str>,
    address: String,
}

#[derive(Serialize)]
struct WorkloadBody<'a> {
    kind: &'a str,
    name: &'a str,
}

/// RFC 3339 in UTC with milliseconds.
fn time(timestamp: Timestamp) -> String {
    let ns = i128::from(timestamp.0);
    jiff::Timestamp::from_nanosecond(ns)
        .map_or_else(|_out_of_range| "9999-12-31T23:59:59.999Z".to_owned(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests;
