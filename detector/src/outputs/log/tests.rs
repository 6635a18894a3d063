//! The lines, as a reader gets them.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
    time::Duration,
};

use serde_json::{Value, json};

use super::LineLog;
use crate::{
    cluster::TrustDomain,
    findings::{Rules, evaluate},
    policy::PolicyView,
    testing::flow,
};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(write: impl FnOnce(&LineLog)) -> Vec<Value> {
    let buffer = Buffer::default();
    let log = LineLog::start(TrustDomain::new(None), buffer.clone()).unwrap();
    write(&log);
    log.finish(Duration::from_secs(5));
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_flow_line_has_both_ends_and_what_was_seen() {
    let lines = written(|log| log.flow(&flow("client")));
    assert_eq!(
        lines,
        [json!({
            "kind": "flow",
            "time": "2026-11-24T06:00:01.234Z",
            "client": {
                "kind": "pod", "namespace": "mcp", "pod": "client",
                "workload": {"kind": "Deployment", "name": "client"},
                "service_account": "client",
                "spiffe_id": "spiffe://cluster.local/ns/mcp/sa/client", "mesh": "none",
                "node": "node1", "address": "10.244.0.9",
            },
            "server": {"kind": "unknown", "range": "private", "address": "10.244.0.3"},
            "port": 8000, "verdict": "plaintext", "protocol": "mcp",
            "evidence": ["mcp-method", "authorization-bearer"], "methods": ["tools/call"],
            "count": 3, "with_credentials": 2, "answered": 1, "refused": 0,
            "first_seen": "2026-11-24T06:00:00.000Z", "last_seen": "2026-11-24T06:00:01.234Z",
        })]
    );
}

#[test]
fn a_finding_line_says_what_why_and_what_to_do() {
    let policy = PolicyView::default();
    let findings = evaluate(&flow("client"), &policy, Rules::default());
    let lines = written(|log| log.finding(&findings[0]));
    for (field, value) in
        [("kind", "finding"), ("id", "plaintext-mcp"), ("severity", "critical"), ("protocol", "mcp")]
    {
        assert_eq!(lines[0][field], value);
    }
    for field in
        ["time", "client", "server", "port", "evidence", "methods", "count", "first_seen", "why", "fix"]
    {
        assert!(!lines[0][field].is_null(), "{field}");
    }
    assert_eq!(lines[0].get("decided_by"), None);
}

#[test]
fn a_hostile_name_cannot_forge_a_line() {
    let name = "a\n{\"kind\":\"finding\"}\u{1b}[2J\u{0}";
    let buffer = Buffer::default();
    let log = LineLog::start(TrustDomain::new(None), buffer.clone()).unwrap();
    log.flow(&flow(name));
    log.finish(Duration::from_secs(5));
    let bytes = buffer.0.lock().unwrap().clone();
    assert_eq!(bytes.iter().filter(|byte| byte.is_ascii_control()).count(), 1, "the last newline alone");
}

#[test]
fn a_reader_that_stalls_costs_lines_that_are_counted() {
    struct Stalled(mpsc::Receiver<()>);
    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _released = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (release, stalled) = mpsc::channel();
    let log = LineLog::start(TrustDomain::new(None), Stalled(stalled)).unwrap();
    let flow = flow("client");
    for _ in 0..LineLog::QUEUE + 10 {
        log.flow(&flow);
    }
    let lost = log.lost().load(Ordering::Relaxed);
    assert!((9..=10).contains(&lost), "{lost}");
    drop(release);
    log.finish(Duration::from_secs(5));
}
