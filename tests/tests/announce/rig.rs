//! Owns an announcer, the API double that it writes to, and flows that give it findings.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]

use std::{net::Ipv4Addr, time::Duration};

use detector::{
    app::announce::{Announcer, Kinds, Pace},
    cluster::{
        SharedStore, TrustDomain,
        kubernetes::{Access, KubernetesSource, Timing},
        read_str,
    },
    findings::{Rules, evaluate},
    flows::{Clock, FlowId, Flows},
    outputs::metrics::{KernelReading, Metrics},
    policy::PolicyView,
};
use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};
use detector_tests::{
    apiserver::{ApiServer, Resource},
    wait,
};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(crate) const EVENTS: &str = "events.events.k8s.io";
pub(crate) const REPORTS: &str = "policyreports.wgpolicyk8s.io";
pub(crate) const OPEN_REPORTS: &str = "reports.openreports.io";

/// Waits as short as a test wants them.
const PACE: Pace = Pace {
    look: Duration::from_millis(20),
    backoff_min: Duration::from_millis(20),
    backoff_max: Duration::from_millis(200),
    refused: Duration::from_millis(100),
};

pub(crate) struct Rig {
    pub(crate) server: ApiServer,
    pub(crate) announcer: Announcer,
    store: SharedStore,
    flows: Flows,
    connections: u64,
    metrics: Metrics,
    cancel: CancellationToken,
    runtime: Runtime,
    task: Option<tokio::task::JoinHandle<()>>,
    _folder: TempDir,
}

/// A double with the CRD of policy reports.
pub(crate) fn server() -> ApiServer {
    let server = ApiServer::start().unwrap();
    server.install(policy_reports());
    server
}

pub(crate) fn policy_reports() -> Resource {
    Resource::new("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports")
}

pub(crate) fn open_reports() -> Resource {
    Resource::new("openreports.io", "v1alpha1", "Report", "reports")
}

pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

impl Rig {
    pub(crate) fn new(server: ApiServer) -> Self {
        crate::log::capture_log();
        let folder = TempDir::new().unwrap();
        let path = Some(server.kubeconfig(folder.path()).unwrap());
        let access = Access::Kubeconfig { path, context: None };
        let timing = Timing {
            silence: Duration::from_secs(1),
            renew_every: Duration::from_millis(50),
            ..Timing::default()
        };
        let store = SharedStore::default();
        store.write().set_local_node("node1");
        let pods = read_str("pods.yaml", PODS);
        assert!(pods.errors.is_empty(), "{:?}", pods.errors);
        store.write().reset(pods.objects);
        let metrics = Metrics::new(KernelReading::default, Default::default()).unwrap();
        let kinds = Kinds { events: true, reports: true };
        let announcer = Announcer::new("node1", kinds, metrics.writes().unwrap(), now());
        let writer =
            KubernetesSource::new(access, SharedStore::default(), TrustDomain::new(None), timing).writer();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let cancel = CancellationToken::new();
        let task = runtime.spawn(announcer.clone().run(writer, PACE, cancel.clone()));
        Self {
            server,
            announcer,
            store,
            flows: Flows::new(Clock { offset_ns: 1_700_000_000_000_000_000 }),
            connections: 0,
            metrics,
            cancel,
            runtime,
            task: Some(task),
            _folder: folder,
        }
    }

    /// A connection that speaks MCP in the clear from the client to the pod with this address, as detection has it.
    pub(crate) fn connection(&mut self, to: Ipv4Addr) -> FlowId {
        self.connections += 1;
        let bytes = |address: Ipv4Addr| address.to_ipv6_mapped().octets();
        let key = EdgeKey {
            client: bytes(Ipv4Addr::new(10, 244, 0, 2)),
            server: bytes(to),
            ifindex: 7,
            server_port: 8000,
            verdict: Verdict::Plaintext as u8,
            protocol: Protocol::Mcp as u8,
            ..EdgeKey::default()
        };
        let value = EdgeValue {
            entered: self.connections,
            answered: self.connections,
            evidence: Evidence::HTTP_REQUEST.0,
            first_ns: 1,
            last_ns: now(),
            ..EdgeValue::default()
        };
        let store = self.store.read();
        self.flows.event(&store, &key, &value, 1, now());
        let update = self.flows.settle(&store, now() + Flows::HOLD).pop().unwrap();
        let findings = evaluate(&update.flow, &PolicyView::of(&store, &update.flow), Rules::default());
        assert_eq!(findings.len(), 1, "{findings:?}");
        self.announcer.found(update.id, update.new_connections, &findings, now());
        update.id
    }

    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let waited = wait::until(what, Duration::from_secs(60), || Ok(condition().then_some(())));
        if waited.is_err() {
            panic!("never: {what}; {:#?}\n{}", self.server.counts(), self.metrics());
        }
    }

    pub(crate) fn objects(&self, resource: &str) -> Vec<Value> {
        self.server.objects(resource)
    }

    pub(crate) fn metrics(&self) -> String {
        String::from_utf8(self.metrics.render().unwrap()).unwrap()
    }

    /// The value of a series.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(task) = self.task.take() {
            let _ended = self.runtime.block_on(task);
        }
    }
}

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: mcp, uid: 00000000-0000-4000-8000-00000000000c }
spec: { nodeName: node2, serviceAccountName: client, containers: [{ name: app }] }
status: { phase: Running, podIPs: [{ ip: 10.244.0.2 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: tools, namespace: mcp, uid: 00000000-0000-4000-8000-000000000001 }
spec: { nodeName: node1, serviceAccountName: tools, containers: [{ name: app }] }
status: { phase: Running, podIPs: [{ ip: 10.244.0.3 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: elsewhere, namespace: mcp, uid: 00000000-0000-4000-8000-000000000002 }
spec: { nodeName: node2, serviceAccountName: tools, containers: [{ name: app }] }
status: { phase: Running, podIPs: [{ ip: 10.244.0.4 }] }
"#;

/// The pod of this node.
pub(crate) const TOOLS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
/// A pod of another node.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 4);
