//! Owns a source and the API double that it watches.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use detector::{
    cluster::{
        Holder, SharedStore, TrustDomain,
        kubernetes::{Access, Health, KubernetesSource, ResourceHealth, ResourceState, Timing},
    },
    readiness::Readiness,
};
use detector_tests::{apiserver::ApiServer, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Waits as short as a test wants them.
pub(crate) const TIMING: Timing = Timing {
    backoff_min: Duration::from_millis(20),
    backoff_max: Duration::from_millis(200),
    refused_retry: Duration::from_millis(50),
    silence: Duration::from_secs(1),
    watch_silence: Duration::from_secs(1),
    watch_length: Duration::from_secs(280),
    good_watch: Duration::from_millis(500),
    renew_every: Duration::from_millis(50),
    mesh_config_every: Duration::from_millis(100),
};

pub(crate) struct Rig {
    pub(crate) server: ApiServer,
    pub(crate) store: SharedStore,
    pub(crate) health: Health,
    pub(crate) readiness: Readiness,
    pub(crate) trust_domain: TrustDomain,
    folder: TempDir,
    cancel: CancellationToken,
    runtime: Runtime,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Rig {
    /// A source that watches `server`.
    pub(crate) fn watch(server: ApiServer) -> Self {
        Self::watch_timed(server, TIMING)
    }

    /// [`Self::watch`] with other waits.
    pub(crate) fn watch_timed(server: ApiServer, timing: Timing) -> Self {
        crate::log::capture_log();
        // Bookmarks are what a quiet watch is known to be alive by.
        server.bookmark_every(Duration::from_millis(300));
        let folder = TempDir::new().unwrap();
        let path = Some(server.kubeconfig(folder.path()).unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = SharedStore::default();
        let trust_domain = TrustDomain::new(None);
        let access = Access::Kubeconfig { path, context: None };
        let source = KubernetesSource::new(access, store.clone(), trust_domain.clone(), timing);
        let health = source.health();
        let readiness = Readiness::default();
        let cancel = CancellationToken::new();
        let task = runtime.spawn(source.run(cancel.clone(), readiness.block("identities")));
        Self { server, store, health, readiness, trust_domain, folder, cancel, runtime, task: Some(task) }
    }

    /// A source that knows what the double has.
    pub(crate) fn synced(server: ApiServer) -> Self {
        let rig = Self::watch(server);
        rig.eventually("ready", || rig.readiness.pending().is_empty());
        rig
    }

    /// Where the kubeconfig, the token and the authority's certificate are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let waited = wait::until(what, Duration::from_secs(30), || Ok(condition().then_some(())));
        if waited.is_err() {
            panic!("never: {what}; {:#?}", self.health.snapshot());
        }
    }

    /// Who has an address: `pod mcp/tools`.
    pub(crate) fn holder(&self, address: &str) -> Option<String> {
        self.store.read().lookup(address.parse().unwrap()).map(|holder| match holder {
            Holder::Pod(pod) => format!("pod {}", pod.name),
            Holder::Service(service) => format!("service {}", service.name),
            Holder::Node(node) => format!("node {node}"),
        })
    }

    #[track_caller]
    pub(crate) fn comes_to_be(&self, address: &str, holder: Option<&str>) {
        self.eventually(&format!("{address} is {holder:?}"), || self.holder(address).as_deref() == holder);
    }

    pub(crate) fn of(&self, resource: &str) -> ResourceHealth {
        self.health.snapshot().into_iter().find(|health| health.resource == resource).unwrap()
    }

    pub(crate) fn state(&self, resource: &str) -> ResourceState {
        self.of(resource).state
    }

    /// Ends the source.
    pub(crate) fn stop(&mut self) {
        self.cancel.cancel();
        if let Some(task) = self.task.take() {
            self.runtime.block_on(task).unwrap();
        }
    }
}

pub(crate) fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "mcp", "labels": { "app": name } },
        "spec": {
            "nodeName": "node1",
            "serviceAccountName": "tools",
            "containers": [{ "name": "app", "image": "example/app:1" }],
        },
        "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] },
    })
}

/// A double with a pod, a service and a node.
pub(crate) fn server() -> ApiServer {
    let server = ApiServer::start().unwrap();
    server.apply_all([
        pod("tools", "10.244.0.5"),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "tools", "namespace": "mcp" },
            "spec": { "clusterIP": "10.96.0.10", "ports": [{ "port": 80, "protocol": "TCP" }] },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": "node1" },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.10" }] },
        }),
    ]);
    server
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
