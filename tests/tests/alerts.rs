//! The real daemon, scraped by a real Prometheus inside its node: the right alert fires and no other, and it
//! clears once what it tells of is put right.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use detector_tests::{
    apiserver::ApiServer,
    clients::{self, Certificate},
    daemon::{self, Daemon},
    netns,
    node::{Node, Pod, PodSpec},
    process::Process,
    prometheus::{Alert, Prometheus, hurried, promtool},
    wait,
};

/// From a cause to its alert, or to the end of it.
const WORD: Duration = Duration::from_secs(60);
/// How long nothing else may fire: longer than any alert on findings is pending.
const STILL: Duration = Duration::from_secs(3);

const CLEAR: u16 = 8000;
const TLS: u16 = 8443;

const POLICY: &str = "\
---
apiVersion: plainsight.dev/v1alpha1
kind: ExpectedSources
metadata:
  namespace: mcp
  name: tools
spec:
  selector:
    matchLabels:
      app: tools
  serviceAccounts:
  - namespace: shop
    name: agent
";

fn rules() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    hurried(&std::fs::read_to_string(path.join("deploy/alerts/plainsight.rules.yaml")).unwrap())
}

fn start<'a>(node: &'a Node, manifests: &Path) -> Daemon<'a> {
    let mut arguments = Daemon::arguments(manifests);
    // As long as a busy machine may take for a scrape, and no longer.
    arguments.extend(["--finding-window", "5", "--kernel-statistics"].map(OsString::from));
    Daemon::start_with(node, &daemon::binary().unwrap(), &arguments, None).unwrap()
}

fn alert(name: &str, severity: &str, labels: &[(&str, &str)]) -> Alert {
    let all = [("alertname", name), ("severity", severity)];
    all.iter().chain(labels).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Waits until these alerts fire and no others, and that it stays so for a while.
#[track_caller]
fn comes_to_fire(prometheus: &mut Prometheus<'_>, wanted: &[Alert]) {
    let wanted: BTreeSet<Alert> = wanted.iter().cloned().collect();
    let mut last = BTreeSet::new();
    let mut since = None;
    let waited = wait::until("alerts", WORD, || {
        last = prometheus.firing()?;
        // Others may be on their way out, but none may fire beside what is wanted once that is there.
        since = if last == wanted { since.or_else(|| Some(Instant::now())) } else { None };
        thread::sleep(Duration::from_millis(100));
        Ok(since.is_some_and(|since| since.elapsed() >= STILL).then_some(()))
    });
    if let Err(error) = waited {
        panic!("{error}: {last:#?} fire, not {wanted:#?}");
    }
}

/// Runs a command of curl again and again until it is dropped.
fn repeat(pod: &Pod, curl: &str) -> Process {
    let mut command = pod.command("sh");
    let curl = format!("curl --silent --output /dev/null --noproxy '*' --max-time 5 {curl}");
    command.args(["-c", &format!("while true; do {curl}; sleep 0.3; done")]);
    pod.spawn(command).unwrap()
}

#[test]
fn plaintext_mcp_with_credentials_pages_an_unexpected_caller_makes_a_ticket_and_both_clear_by_the_fix() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let mut pod = |namespace, name| node.pod(PodSpec::new(namespace, name).service_account(name)).unwrap();
    let (tools, agent, shell) = (pod("mcp", "tools"), pod("shop", "agent"), pod("shop", "shell"));
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), POLICY).unwrap();
    let clear = SocketAddr::new(tools.ip(), CLEAR);
    let mut server = clients::serve_health(&tools, clear).unwrap();
    clients::wait_for_server(&tools, &mut server, CLEAR).unwrap();
    let certificate = Certificate::new(&tools).unwrap();
    let mut tls_server = clients::serve_openssl(&tools, TLS, &certificate).unwrap();
    clients::wait_for_server(&tools, &mut tls_server, TLS).unwrap();

    let daemon = start(&node, folder.path());
    let mut prometheus = Prometheus::start(&node, &rules()).unwrap();
    let queried = |prometheus: &mut Prometheus<'_>, query: &str| prometheus.value(query).unwrap();
    wait::until("a scrape", WORD, || prometheus.value("up")).unwrap();
    comes_to_fire(&mut prometheus, &[]);

    let call = "--header 'mcp-protocol-version: 2025-06-18' --header 'content-type: application/json' \
                --header 'accept: application/json, text/event-stream' \
                --header 'authorization: Bearer canary-4c1d' \
                --data '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}'";
    let in_clear = repeat(&agent, &format!("{call} http://{clear}/mcp"));
    let at_tools =
        [("destination_kind", "pod"), ("destination_namespace", "mcp"), ("destination_workload", "tools")];
    let page = alert("PlainsightPlaintextMcpWithCredentials", "critical", &at_tools);
    comes_to_fire(&mut prometheus, &[page]);
    let counted = "plainsight_connections_with_credentials_total{protocol=\"mcp\",source_workload=\"agent\"}";
    assert!(queried(&mut prometheus, counted) > Some(0.0));
    let last = "time() - plainsight_last_plaintext_timestamp_seconds{destination_workload=\"tools\"}";
    assert!(queried(&mut prometheus, last).is_some_and(|ago| (-2.0..60.0).contains(&ago)));

    for cost in [
        "plainsight_program_run_seconds_total{program=\"detect_ingress\"}",
        "plainsight_program_runs_total{program=\"detect_egress\"}",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes > 1e6",
        "time() - process_start_time_seconds",
    ] {
        assert!(queried(&mut prometheus, cost) > Some(0.0), "{cost}");
    }

    // The fix: the same over TLS.
    drop(in_clear);
    let encrypted = repeat(&agent, &format!("{call} --insecure https://{}:{TLS}/mcp", tools.ip()));
    comes_to_fire(&mut prometheus, &[]);
    let encrypted_seen = "plainsight_connections_total{verdict=\"tls\",source_workload=\"agent\"}";
    assert!(queried(&mut prometheus, encrypted_seen) > Some(0.0));
    drop(encrypted);

    let unexpected = repeat(&shell, &format!("http://{clear}/"));
    let id = [("id", "unexpected-source")];
    let ticket = alert("PlainsightFinding", "warning", &[&id[..], &at_tools].concat());
    comes_to_fire(&mut prometheus, &[ticket]);
    drop(unexpected);
    comes_to_fire(&mut prometheus, &[]);

    let metrics = daemon.metrics().unwrap();
    assert_eq!(promtool(&["check", "metrics"], &metrics).unwrap(), "");
    assert!(!metrics.contains("canary-4c1d"));
    assert!(!metrics.contains("10.244."), "an address is in a label:\n{metrics}");
    daemon.stop().unwrap();
}

#[test]
fn blindness_makes_tickets_a_pod_that_is_not_observed_and_a_daemon_that_is_gone() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let _seen = node.pod(PodSpec::new("mcp", "tools")).unwrap();
    let plan = node.plan(PodSpec::new("mcp", "hidden")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let target = [("instance", "127.0.0.1:9464"), ("job", "plainsight")];

    let daemon = start(&node, folder.path());
    let mut prometheus = Prometheus::start(&node, &rules()).unwrap();
    let why = [("coverage", "no-interface")];
    let hidden = alert("PlainsightPodsNotObserved", "warning", &[&why[..], &target].concat());
    comes_to_fire(&mut prometheus, &[hidden]);
    let _shown = node.start(&plan).unwrap();
    comes_to_fire(&mut prometheus, &[]);

    daemon.stop().unwrap();
    let down = alert("PlainsightTargetDown", "warning", &target);
    let absent = alert("PlainsightAbsent", "warning", &[]);
    comes_to_fire(&mut prometheus, &[down, absent]);
    let daemon = start(&node, folder.path());
    comes_to_fire(&mut prometheus, &[]);
    daemon.stop().unwrap();
}

#[test]
fn an_api_server_that_is_silent_makes_a_ticket_until_it_speaks_again() {
    if !netns::require_root() {
        return;
    }
    let node = Node::new().unwrap();
    let api = node.netns().run(ApiServer::start).unwrap();
    api.bookmark_every(Duration::from_millis(300));
    let folder = tempfile::tempdir().unwrap();
    let arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path()).unwrap());
    let daemon = Daemon::start_with(&node, &daemon::binary().unwrap(), &arguments, None).unwrap();
    let mut prometheus = Prometheus::start(&node, &rules()).unwrap();
    wait::until("a scrape", WORD, || prometheus.value("up")).unwrap();
    comes_to_fire(&mut prometheus, &[]);

    api.power(false);
    wait::until("word of pods and of nothing but silence", WORD, || {
        let firing = prometheus.firing()?;
        assert!(firing.iter().all(|alert| alert["alertname"] == "PlainsightIdentitiesStale"), "{firing:#?}");
        Ok(firing.iter().any(|alert| alert["resource"] == "pods").then_some(()))
    })
    .unwrap();
    api.power(true);
    comes_to_fire(&mut prometheus, &[]);
    daemon.stop().unwrap();
}
