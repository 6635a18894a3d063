//! "May I go to STRICT?", asked as a user asks it: of a Prometheus that is a double, and of the real daemon.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use detector_tests::{
    daemon::{self, ADMIN},
    mesh::{Dial, Mesh, Plaintext, Platform},
    netns, wait,
};
use serde_json::Value;

const WORD: Duration = Duration::from_secs(20);

/// A workload in a sidecar's company.
const TOOLS: &str = "\
apiVersion: v1
kind: Pod
metadata:
  namespace: mcp
  name: tools
  labels: {app: tools, security.istio.io/tlsMode: istio}
  annotations: {sidecar.istio.io/status: \"{}\"}
spec:
  containers:
  - {name: main, ports: [{name: http, containerPort: 8080}, {name: health, containerPort: 8081}]}
  - {name: istio-proxy}
status: {podIP: 10.244.0.9}
";

/// A Prometheus that answers each query with what is given for a word in it.
struct Prometheus {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Prometheus {
    fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = Vec::new();
                while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                    let mut buffer = [0; 4096];
                    let read = stream.read(&mut buffer).unwrap_or(0);
                    if read == 0 {
                        break;
                    }
                    head.extend_from_slice(&buffer[..read]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let found =
                    answers.iter().find(|(word, _)| head.lines().next().unwrap_or_default().contains(word));
                log.lock().unwrap().push(head);
                let (status, body) = match found {
                    Some((_, body)) => ("200 OK", body.as_str()),
                    None => ("400 Bad Request", "{\"status\":\"error\",\"error\":\"no such query\"}"),
                };
                let _gone = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { address, asked }
    }

    /// One that knows of daemons for `days`, and of these edges.
    fn of(days: u64, edges: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let step = 7 * 86_400 / 500;
        let values: Vec<String> =
            (0..=days * 86_400 / step).map(|n| format!("[{},\"2\"]", now - n * step)).collect();
        let none = "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}";
        Self::start(vec![
            (
                "plainsight_build_info",
                format!(
                    "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{{\"metric\":{{}},\"values\":[{}]}}]}}}}",
                    values.join(",")
                ),
            ),
            (
                "plainsight_connections_total",
                format!(
                    "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{edges}]}}}}"
                ),
            ),
            ("plainsight_last_plaintext", none.to_owned()),
            ("plainsight_node_pods", none.to_owned()),
        ])
    }
}

fn readiness(manifests: &Path, prometheus: &Prometheus, flags: &[&str]) -> Output {
    let mut command = Command::new(daemon::binary().unwrap());
    command.args(["readiness", "--manifests"]).arg(manifests).args(flags);
    command.args(["--prometheus", &format!("http://{}/", prometheus.address)]);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn manifests() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tools.yaml");
    std::fs::write(&path, TOOLS).unwrap();
    (folder, path)
}

const BATCH: &str = r#"{"metric":{"verdict":"plaintext","protocol":"mcp","source_kind":"pod","source_namespace":"jobs","source_workload":"batch","source_service_account":"batch","destination_namespace":"mcp","destination_workload":"tools"},"value":[1795500000,"3"]}"#;

#[test]
fn prometheus_says_yes_no_and_not_yet() {
    let (_folder, path) = manifests();
    let output = readiness(&path, &Prometheus::of(8, ""), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("yes: all may go to STRICT"), "{}", text(&output));
    assert!(text(&output).contains("mode: STRICT"), "{}", text(&output));

    let output = readiness(&path, &Prometheus::of(8, BATCH), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let workload = &report["workloads"][0];
    assert_eq!(
        (&workload["answer"], &workload["mcp"]),
        (&"blocked".into(), &true.into()),
        "known by the wire"
    );
    assert_eq!(workload["breaks"][0]["client"], "jobs/batch (service account batch)");

    let output = readiness(&path, &Prometheus::of(3, ""), &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("not-yet"), "{}", text(&output));
    let told = ["observed for only 2d of 7d", "observed for only 3d of 7d"];
    assert!(told.iter().any(|told| text(&output).contains(told)), "{}", text(&output));
}

#[test]
fn a_token_is_sent_and_a_refusal_is_told() {
    let (folder, path) = manifests();
    let token = folder.path().join("token");
    std::fs::write(&token, "canary-token\n").unwrap();
    let prometheus = Prometheus::of(8, "");
    let output = readiness(&path, &prometheus, &["--prometheus-token-file", token.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let asked = prometheus.asked.lock().unwrap().join("\n").to_lowercase();
    assert_eq!(asked.matches("authorization: bearer canary-token\r\n").count(), 4, "{asked}");
    assert!(asked.contains("/api/v1/query_range?query=count%28plainsight_build_info%29"), "{asked}");

    let output = readiness(&path, &Prometheus::start(vec![]), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no such query"), "{}", text(&output));
}

#[test]
fn wrong_usage_is_told_as_such() {
    let (_folder, path) = manifests();
    let run = |flags: &[&str]| {
        let mut command = Command::new(daemon::binary().unwrap());
        command.args(["readiness", "--manifests"]).arg(&path).args(flags).output().unwrap()
    };
    for flags in [&["--quiet", "7w"][..], &["--prometheus", "ftp://x"], &["--admin", "nowhere"]] {
        assert_eq!(run(flags).status.code(), Some(64), "{flags:?}");
    }
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("--admin"), "{}", text(&output));
}

/// Asks the daemon on the platform's node.
fn ask(platform: &Platform, flags: &[&str]) -> (Value, Option<i32>) {
    let mut command = platform.node().netns().command(daemon::binary().unwrap());
    command.args(["readiness", "--format", "json", "--admin", &ADMIN.to_string(), "--manifests"]);
    let output = command.arg(platform.manifests()).args(flags).output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|_| panic!("{}", text(&output))), output.status.code())
}

fn workload<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["workloads"].as_array().unwrap().iter().find(|workload| workload["name"] == name).unwrap()
}

const PERMISSIVE: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: mcp-production, name: all}\nspec: {mtls: {mode: PERMISSIVE}}\n";

#[test]
fn the_daemon_says_who_would_break_and_when_nobody_would() {
    if !netns::require_root() {
        return;
    }
    let platform = Platform::start(Mesh::Istio, Plaintext::Served, PERMISSIVE, |spec| spec).unwrap();
    let mut daemon = platform.detector(&daemon::binary().unwrap()).unwrap();
    platform.call_meshed(&platform.gateway, &Dial::istio()).unwrap();
    daemon.wait_for("mesh flow", WORD, |record| record.is_flow() && record.verdict() == "mesh-mtls").unwrap();

    let (report, _) = ask(&platform, &["--quiet", "7d"]);
    let tools = workload(&report, "tool-executor");
    assert_eq!(tools["answer"], "not-yet", "{report:#}");
    assert!(tools["notes"][0].as_str().unwrap().starts_with("observed for only "), "{tools:#}");
    // Once it was quiet for long enough, the answer is a clear yes.
    let ready = wait::until("a yes", WORD, || {
        let (report, _) = ask(&platform, &["--quiet", "1s"]);
        let tools = workload(&report, "tool-executor").clone();
        Ok((tools["answer"] == "ready").then_some(tools))
    });
    let next = ready.unwrap()["next"].as_str().unwrap().to_owned();
    assert!(next.contains("mode: STRICT") && next.contains("app"), "{next}");

    platform.call_clear(&platform.batch, true, Plaintext::Served).unwrap();
    daemon.wait_for("finding", WORD, |record| record.text("id") == "plaintext-mcp").unwrap();
    let (report, status) = ask(&platform, &["--quiet", "1h"]);
    assert_eq!(status, Some(2));
    let tools = workload(&report, "tool-executor");
    assert_eq!((&tools["answer"], &tools["mcp"]), (&"blocked".into(), &true.into()), "{tools:#}");
    let breaks = tools["breaks"].as_array().unwrap();
    assert!(!breaks.is_empty());
    for broken in breaks {
        assert_eq!(broken["client"], "mcp-production/batch (service account batch)", "{broken:#}");
        assert_eq!(
            (&broken["port"], &broken["advice"]),
            (&8080.into(), &"put the client in the mesh".into())
        );
    }
    // The health port is free, so all but the MCP port can be had now.
    let next = tools["next"].as_str().unwrap();
    assert!(next.contains("mode: STRICT") && next.contains("8080:\n      mode: PERMISSIVE"), "{next}");
    assert_eq!(workload(&report, "batch")["answer"], "no-proxy");
    daemon.stop().unwrap();
}
