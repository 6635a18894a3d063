//! `audit` and `explain` of a cluster as it is, by the API double.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::process::{Command, Output};

use detector_tests::{
    apiserver::{ApiServer, Fault, Match, Resource},
    daemon,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A cluster with Istio: a workload with a sidecar, in a replica set of a deployment.
struct Cluster {
    server: ApiServer,
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::start().unwrap();
        server.install(Resource::new("security.istio.io", "v1", "PeerAuthentication", "peerauthentications"));
        server.install(Resource::new(
            "security.istio.io",
            "v1",
            "AuthorizationPolicy",
            "authorizationpolicies",
        ));
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true}]);
        server.apply_all([
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mcp", "annotations": {"plainsight.dev/permissive-until": "2026-01-01"}}}),
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "mcp", "name": "tools-1", "ownerReferences": owner("Deployment", "tools")}}),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "namespace": "mcp", "name": "tools-1-a", "ownerReferences": owner("ReplicaSet", "tools-1"),
                    "labels": {"app": "tools", "security.istio.io/tlsMode": "istio"},
                    "annotations": {"sidecar.istio.io/status": "{}"},
                },
                "spec": {
                    "serviceAccountName": "tools",
                    "containers": [
                        {"name": "main", "ports": [{"name": "http", "containerPort": 8080}]},
                        {"name": "istio-proxy"},
                    ],
                },
                "status": {"phase": "Running", "podIP": "10.244.0.9"},
            }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "mcp", "name": "tools"},
                "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "tools"}, "ports": [{"port": 80, "targetPort": "http", "appProtocol": "kgateway.dev/mcp"}]},
            }),
        ]);
        Self { server, folder: TempDir::new().unwrap() }
    }

    fn run(&self, words: &[&str]) -> Output {
        let kubeconfig = self.server.kubeconfig(self.folder.path()).unwrap();
        let mut command = Command::new(daemon::binary().unwrap());
        command.args(words).arg("--kubeconfig").arg(kubeconfig).args(["--format", "json"]);
        command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap()
    }

    fn audit(&self, flags: &[&str]) -> (Value, String, Option<i32>) {
        let output = self.run(&[&["audit"], flags].concat());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout);
        (report.unwrap_or_else(|_| panic!("{errors}")), errors, output.status.code())
    }

    fn peer_authentication(&self, name: &str, spec: Value) {
        self.server.apply(json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"namespace": "mcp", "name": name}, "spec": spec,
        }));
    }
}

fn ids(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect()
}

#[test]
fn the_cluster_as_it_is_is_audited() {
    let cluster = Cluster::new();
    let (report, errors, status) = cluster.audit(&["--fail-on", "high"]);
    assert_eq!(errors, "");
    assert_eq!(status, Some(2));
    assert_eq!(ids(&report), ["permissive-overdue", "no-authorization"]);
    let overdue = &report["findings"][0];
    assert_eq!(
        (&overdue["kind"], &overdue["name"], &overdue["mcp"]),
        (&"Deployment".into(), &"tools".into(), &true.into())
    );
    assert_eq!(overdue["decided_by"], "Namespace mcp, metadata.annotations[plainsight.dev/permissive-until]");

    cluster.peer_authentication("all", json!({"mtls": {"mode": "STRICT"}}));
    let (report, _, status) = cluster.audit(&["--fail-on", "high"]);
    assert_eq!((ids(&report), status), (vec!["no-authorization"], Some(0)));
}

#[test]
fn the_root_namespace_comes_from_the_mesh_s_configuration() {
    let cluster = Cluster::new();
    cluster.server.apply_all([
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "istio-system", "name": "istio"}, "data": {"mesh": "rootNamespace: root\n"}}),
        json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"namespace": "root", "name": "mesh"}, "spec": {"mtls": {"mode": "STRICT"}}}),
    ]);
    assert_eq!(ids(&cluster.audit(&[]).0), ["no-authorization"]);
    cluster.server.fault(Match::resource("configmaps"), Fault::Forbidden);
    assert_eq!(ids(&cluster.audit(&[]).0), ["permissive-overdue", "no-authorization"], "the default holds");
}

#[test]
fn what_cannot_be_read_is_named_and_no_gate_opens_for_it() {
    let cluster = Cluster::new();
    cluster.peer_authentication("all", json!({"mtls": {"mode": "STRICT"}}));
    cluster.peer_authentication("typo", json!({"mtls": {"mode": "STRICTLY"}}));
    let (report, errors, status) = cluster.audit(&["--fail-on", "critical"]);
    assert!(errors.contains("PeerAuthentication mcp/typo: spec.mtls.mode"), "{errors}");
    assert_eq!((ids(&report), status), (vec!["no-authorization"], Some(1)), "everything else counts");
    assert_eq!(report["summary"]["errors"], 1);

    cluster.server.delete("peerauthentications.security.istio.io", "mcp", "typo");
    cluster.server.fault(Match::resource("peerauthentications.security.istio.io"), Fault::Forbidden);
    let (_, errors, status) = cluster.audit(&["--fail-on", "critical"]);
    assert!(errors.contains("peerauthentications.security.istio.io may not be read"), "{errors}");
    assert_eq!(status, Some(1));

    cluster.server.fault(Match::resource("pods"), Fault::Forbidden);
    let output = cluster.run(&["audit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("list pods: forbidden"), "{output:?}");
}

#[test]
fn a_pod_of_the_cluster_is_explained_with_fields_that_are_not_known() {
    let cluster = Cluster::new();
    cluster
        .peer_authentication("all", json!({"mtls": {"mode": "STRICT", "minimum": "1.3"}, "novelty": true}));
    let output = cluster.run(&["explain", "mcp/tools"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(explained["pod"], "tools-1-a");
    assert_eq!(explained["ports"][0]["mode"]["declared"], "strict");
    let unknown: Vec<&str> = explained["unknown_fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unknown| unknown["field"].as_str().unwrap())
        .collect();
    assert_eq!(unknown, ["spec.mtls.minimum", "spec.novelty"]);
    let nobody = cluster.run(&["explain", "mcp/nobody"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no pod or workload mcp/nobody"), "{nobody:?}");
}
