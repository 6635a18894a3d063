//! Owns the scenario's pods as objects for a cluster.
//!
//! Names, ports and service accounts are those of `detector_tests::scenario`; the tests here hold them against
//! its expectations. Clients call again and again: a real cluster has its own mind about when a pod is known.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use detector_tests::scenario::TOKEN;
use serde_json::{Value, json};

use crate::{json::at, process};

/// The servers, by namespace and name.
pub(super) const SERVERS: [(&str, &str); 3] =
    [("mcp-production", "tool-executor"), ("mcp-production", "secure-tools"), ("default", "web")];

const CLEAR: &str = "http://tool-executor.mcp-production.svc.cluster.local:8000";
const SECURE: &str = "https://secure-tools.mcp-production.svc.cluster.local:8443/mcp";
const WEB: &str = "http://web.default.svc.cluster.local:8080/healthz";

/// A certificate for the server behind TLS, and its key.
pub(super) struct Certificate {
    certificate: String,
    key: String,
}

/// Makes one with openssl.
pub(super) fn certificate(folder: &Path) -> Result<Certificate> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args([
        "-days",
        "2",
        "-subj",
        "/CN=plainsight-check",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    ]);
    openssl.args(["-addext", "subjectAltName=DNS:secure-tools.mcp-production.svc.cluster.local"]);
    process::output(openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key))?;
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    Ok(Certificate { certificate: read(&certificate)?, key: read(&key)? })
}

/// Namespaces, the servers with what they need, and who is expected to call.
pub(super) fn servers(image: &str, certificate: &Certificate) -> String {
    let Certificate { certificate, key } = certificate;
    let mut objects: Vec<Value> = ["mcp-production", "monitoring"]
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    objects.push(secret(json!({"tls.crt": certificate, "tls.key": key})));
    objects.push(json!({
        "apiVersion": "plainsight.dev/v1alpha1", "kind": "ExpectedSources",
        "metadata": {"namespace": "mcp-production", "name": "tool-executor"},
        "spec": {
            "selector": {"matchLabels": {"app": "tool-executor"}},
            "serviceAccounts": [
                {"namespace": "mcp-production", "name": "gateway"},
                {"namespace": "mcp-production", "name": "legacy-agent"},
            ],
        },
    }));
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8000}, "periodSeconds": 5});
    let mcp = "exec /venv2/bin/python /clients/server2.py --host 0.0.0.0";
    for (namespace, name, port, command, probe) in [
        ("mcp-production", "tool-executor", 8000, format!("{mcp} --port 8000"), probe),
        (
            "mcp-production",
            "secure-tools",
            8443,
            format!("{mcp} --port 8443 --cert /tls/tls.crt --key /tls/tls.key"),
            Value::Null,
        ),
        (
            "default",
            "web",
            8080,
            "exec python /clients/health.py --host 0.0.0.0 --port 8080".into(),
            Value::Null,
        ),
    ] {
        let serving = json!({"ports": [{"containerPort": port}], "readinessProbe": probe});
        objects.extend([account(namespace, name), pod(image, namespace, name, &command, &serving)]);
        // Without an address of its own: the name leads to the pod's.
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": [{"port": port}]},
        }));
    }
    list(objects)
}

/// The clients.
pub(super) fn clients(image: &str, certificate: &Certificate) -> String {
    let call = |major: u8, url: &str, more: &str| {
        format!("/venv{major}/bin/python /clients/client{major}.py --url {url} {more}")
    };
    let token = format!("--token={TOKEN}");
    let clear = format!("{CLEAR}/mcp");
    let gateway =
        format!("{}; {}", call(2, &clear, &token), call(2, SECURE, &format!("{token} --ca /tls/tls.crt")));
    let probe = format!("python -c 'import urllib.request; urllib.request.urlopen(\"{WEB}\").read()'");
    // The trust is public; the key stays with the server.
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "mcp-production", "name": "trust"},
        "data": {"tls.crt": certificate.certificate},
    })];
    for (namespace, name, command) in [
        ("mcp-production", "gateway", gateway),
        ("mcp-production", "legacy-agent", call(1, &clear, &token)),
        ("default", "debug-shell", call(2, &clear, "")),
        ("monitoring", "uptime", probe),
    ] {
        let again = format!("while true; do {command}; sleep 5; done");
        objects.extend([account(namespace, name), pod(image, namespace, name, &again, &Value::Null)]);
    }
    list(objects)
}

fn list(objects: Vec<Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

fn secret(data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"namespace": "mcp-production", "name": "secure-tools"}, "stringData": data,
    })
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}})
}

/// A pod; `serving` is what a server's container has beyond a client's.
fn pod(image: &str, namespace: &str, name: &str, command: &str, serving: &Value) -> Value {
    let volume = match name {
        "secure-tools" => json!({"name": "tls", "secret": {"secretName": "secure-tools"}}),
        "gateway" => json!({"name": "tls", "configMap": {"name": "trust"}}),
        _ => json!({"name": "tls", "emptyDir": {}}),
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": name,
            "terminationGracePeriodSeconds": 1,
            "volumes": [volume],
            "containers": [{
                "name": "main", "image": image, "imagePullPolicy": "Never",
                "command": ["sh", "-c", command],
                "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
                "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": true}],
                "ports": at(serving, "/ports"),
                "readinessProbe": at(serving, "/readinessProbe"),
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use detector_tests::scenario::FLOWS;
    use serde_json::Value;

    use super::{Certificate, SERVERS, clients, servers};

    fn pods() -> BTreeMap<String, Value> {
        let certificate = Certificate { certificate: "c".to_owned(), key: "k".to_owned() };
        let items = [servers("i", &certificate), clients("i", &certificate)].map(|text| {
            let list: Value = serde_json::from_str(&text).unwrap();
            list["items"].as_array().unwrap().clone()
        });
        let pods = items.into_iter().flatten().filter(|object| object["kind"] == "Pod");
        let text = |pod: &Value, field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
        pods.map(|pod| (format!("{}/{}", text(&pod, "namespace"), text(&pod, "name")), pod)).collect()
    }

    #[test]
    fn every_end_that_is_expected_is_a_pod_with_the_account_of_its_name() {
        let pods = pods();
        for flow in FLOWS {
            for id in flow.client.into_iter().chain([flow.server]) {
                let pod = pods.get(id).unwrap_or_else(|| panic!("no pod {id}"));
                assert_eq!(pod["spec"]["serviceAccountName"], id.split_once('/').unwrap().1);
            }
            let port = &pods[flow.server]["spec"]["containers"][0]["ports"][0]["containerPort"];
            assert_eq!(*port, flow.port, "{}", flow.server);
        }
    }

    #[test]
    fn the_servers_that_are_waited_for_are_those_that_are_called() {
        let mut called: Vec<_> = FLOWS.iter().map(|flow| flow.server.to_owned()).collect();
        called.sort();
        called.dedup();
        let mut waited: Vec<_> =
            SERVERS.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        waited.sort();
        assert_eq!(called, waited);
    }

    #[test]
    fn the_key_is_the_servers_alone() {
        let certificate = Certificate { certificate: "c".to_owned(), key: "secret-key".to_owned() };
        assert!(servers("i", &certificate).contains("secret-key"));
        assert!(!clients("i", &certificate).contains("secret-key"));
    }
}
