//! Reads what a real API server answered (see testdata/README.md).

use std::net::IpAddr;

use crate::cluster::{
    Store, WorkloadKind, manifests,
    objects::{Object, Pod, Service},
};

fn answers() -> Vec<Object> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/kubernetes-api").into();
    let manifests = manifests::read(&[folder]);
    assert!(manifests.errors.is_empty(), "{:?}", manifests.errors);
    manifests.objects
}

fn pod(objects: &[Object], prefix: &str) -> Pod {
    let found = objects.iter().find_map(|object| match object {
        Object::Pod(pod) if pod.name.name.starts_with(prefix) => Some(pod.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no pod {prefix}"))
}

#[test]
fn a_recorded_pod_has_its_identity() {
    let objects = answers();
    let debug = pod(&objects, "debug");
    assert!(debug.host_network);
    assert_eq!(debug.service_account.as_ref(), "default");
    assert_eq!(debug.workload.kind, WorkloadKind::Pod);
    let tools = pod(&objects, "mcp-tool-executor-");
    assert_eq!(tools.name.namespace.as_ref(), "mcp-production");
    assert_eq!(
        (&tools.workload.kind, tools.workload.name.as_ref()),
        (&WorkloadKind::Deployment, "mcp-tool-executor")
    );
    assert_eq!(tools.node.as_deref(), Some("node1"));
    assert!(!tools.addresses.is_empty());
}

#[test]
fn a_recorded_service_leads_to_its_pods() {
    let objects = answers();
    let service: Service = objects
        .iter()
        .find_map(|object| match object {
            Object::Service(service) if service.name.name.as_ref() == "mcp-tool-executor" => {
                Some(service.clone())
            }
            _ => None,
        })
        .unwrap();
    let mut store = Store::default();
    store.reset(objects);
    let backends = store.backends(&service, 80);
    let ports: Vec<_> =
        backends.iter().map(|backend| (backend.pod.addresses.iter().next().unwrap(), backend.port)).collect();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(ports, [(ip("10.244.1.13"), 8080), (ip("10.244.1.14"), 8080)]);
}

#[test]
fn a_name_that_no_object_can_have_is_refused_and_shown_harmless() {
    for hostile in crate::testing::HOSTILE {
        // Quotes, angle brackets and the like are odd and do no harm.
        let odd = hostile.chars().all(|c| c.is_ascii_graphic() || c == ' ') && hostile.len() <= 253;
        if odd && !hostile.contains(['/', '%']) {
            continue;
        }
        for (field, text) in [
            ("metadata.name", serde_json::json!({ "metadata": { "name": hostile } })),
            ("metadata.namespace", serde_json::json!({ "metadata": { "name": "a", "namespace": hostile } })),
            (
                "spec.nodeName",
                serde_json::json!({ "metadata": { "name": "a" }, "spec": { "nodeName": hostile } }),
            ),
            (
                "spec.serviceAccountName",
                serde_json::json!({ "metadata": { "name": "a" }, "spec": { "serviceAccountName": hostile } }),
            ),
        ] {
            let error = super::decode("v1", "Pod", text).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
            assert!(!error.chars().any(crate::printable::is_hostile), "{error:?}");
        }
    }
}
