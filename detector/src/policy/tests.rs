//! Decisions, a row for each rule, with where the rule is from.
//!
//! Sources: `applier` is Istio's pilot/pkg/security/authn/policy_applier.go, `push` its
//! pilot/pkg/model/push_context.go, `checker` its pilot/pkg/xds/endpoints/mtls_checker.go, `authz` its
//! API's authorization_policy.proto and pilot/pkg/security/authz/model, `ambient` its
//! pilot/pkg/serviceregistry/ambient/authorization.go, `capture` its tools/istio-iptables/pkg/capture/run.go,
//! `trustdomain bundle` its pilot/pkg/security/trustdomain/bundle.go; `linkerd` is Linkerd's
//! policy-controller/k8s/index/src/inbound/index.rs.

mod authorization;
mod client;
mod exceptions;
mod linkerd;
mod peer_authentication;
mod tunnel;
mod unrelated;

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use super::{Answer, ClientTls, Dialled, PolicySet, PortMode, Ruling, identity};
use crate::{
    cluster::{
        self,
        objects::{Name, Object, Pod},
    },
    testing,
};

/// Pods and policy from manifests.
pub(super) struct World {
    pub(super) set: PolicySet,
    pods: Vec<Arc<Pod>>,
}

/// A pod of the label `app` and the service account of its name, in a sidecar's company.
pub(super) fn sidecar(namespace: &str, name: &str, extra: &[(&str, &str)]) -> String {
    pod(
        namespace,
        name,
        &[("security.istio.io/tlsMode", "istio")],
        &[("sidecar.istio.io/status", "{}")],
        extra,
        "istio-proxy",
    )
}

/// A pod in Linkerd.
pub(super) fn linkerd(namespace: &str, name: &str, extra: &[(&str, &str)]) -> String {
    pod(namespace, name, &[("linkerd.io/control-plane-ns", "linkerd")], &[], extra, "linkerd-proxy")
}

/// A pod in the ambient mesh.
pub(super) fn ambient(namespace: &str, name: &str, extra: &[(&str, &str)]) -> String {
    pod(namespace, name, &[], &[("ambient.istio.io/redirection", "enabled")], extra, "other")
}

/// A pod in no mesh.
pub(super) fn plain(namespace: &str, name: &str) -> String {
    pod(namespace, name, &[], &[], &[], "other")
}

fn pod(
    namespace: &str,
    name: &str,
    labels: &[(&str, &str)],
    annotations: &[(&str, &str)],
    extra: &[(&str, &str)],
    beside: &str,
) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  namespace: {namespace}\n  name: {name}\n  labels:\n    app: {name}\n"
    );
    for (key, value) in labels {
        writeln!(text, "    {key}: {value:?}").unwrap();
    }
    text.push_str("  annotations:\n    none: \"\"\n");
    for (key, value) in annotations.iter().chain(extra) {
        writeln!(text, "    {key}: {value:?}").unwrap();
    }
    writeln!(
        text,
        "spec:\n  serviceAccountName: {name}\n  containers:\n  - name: main\n    ports:\n    - name: http\n      containerPort: 8080\n  - name: {beside}"
    )
    .unwrap();
    text
}

/// `PeerAuthentication`s, `AuthorizationPolicy`s and so on: one object a row, short.
pub(super) fn object(kind: &str, version: &str, name: &str, created: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata:\n  namespace: {namespace:?}\n  name: {name:?}\n  creationTimestamp: \"{created}\"\nspec: {spec}\n"
    )
}

impl World {
    pub(super) fn new(manifests: &str) -> Self {
        let read = cluster::read_str("test.yaml", manifests);
        assert!(read.errors.is_empty(), "{:?}", read.errors);
        let (mut set, mut pods) = (PolicySet::default(), Vec::new());
        for object in read.objects {
            match object {
                Object::Policy(object) => {
                    set.apply(*object);
                }
                Object::ExpectedSources(sources) => {
                    set.apply(super::PolicyObject::ExpectedSources(sources));
                }
                Object::Pod(pod) => pods.push(Arc::new(pod)),
                _ => {}
            }
        }
        Self { set, pods }
    }

    pub(super) fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| *pod.name.name == *name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    pub(super) fn mode(&self, pod: &str, port: u16) -> PortMode {
        self.set.mode(self.pod(pod), port, None).unwrap()
    }

    /// Whether `server` expects `client`, and the object that says so.
    pub(super) fn admits(&self, client: &str, server: &str, port: u16) -> Ruling {
        self.admits_from(client, server, port, "10.0.0.9")
    }

    pub(super) fn admits_from(&self, client: &str, server: &str, port: u16, address: &str) -> Ruling {
        self.set.admits(self.pod(server), port, Some(identity(self.pod(client))), testing::ip(address))
    }

    pub(super) fn anonymous(&self, server: &str, port: u16) -> Ruling {
        self.set.admits(self.pod(server), port, None, testing::ip("10.0.0.9"))
    }

    /// What `client` sends to port 80 of the service of `server`, which leads to its 8080.
    pub(super) fn sends(&self, client: &str, server: &str) -> ClientTls {
        let service = self.pod(server).name.clone();
        self.sends_to(client, server, Some((&service, 80)))
    }

    pub(super) fn sends_to(&self, client: &str, server: &str, dialled: Option<(&Name, u16)>) -> ClientTls {
        let dialled = dialled.map(|(service, port)| Dialled { service, port, guessed: false });
        let address: IpAddr = testing::ip("10.96.0.1");
        self.set.client_tls(self.pod(client), self.pod(server), 8080, address, dialled)
    }
}

#[test]
fn every_answer_has_a_name() {
    for answer in [Answer::Allowed, Answer::Denied, Answer::Unknown, Answer::NoPolicy] {
        assert!(!answer.as_str().is_empty());
    }
}

#[test]
fn the_objects_of_a_real_server_decide_as_they_were_meant() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/kubernetes-api").into();
    let read = cluster::read(&[folder]);
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    let set: PolicySet = read
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Policy(object) => Some((**object).clone()),
            _ => None,
        })
        .collect();
    assert!(set.len() >= 8, "{}", set.len());
    for object in set.objects() {
        assert_eq!(object.unknown_fields(), [], "{}", object.key());
    }
    let tools = read.objects.iter().find_map(|object| match object {
        Object::Pod(pod) if pod.name.name.starts_with("mcp-tool-executor") => Some(pod),
        _ => None,
    });
    let mode = |port| set.mode(tools.unwrap(), port, None).unwrap();
    assert_eq!(
        mode(8080).decided_by.to_string(),
        "PeerAuthentication mcp-production/mcp-tool-executor-health-check, spec.mtls.mode"
    );
    assert_eq!((mode(8080).declared, mode(8080).gap), (super::Declared::Strict, None));
    assert_eq!(mode(8081).declared, super::Declared::Disabled);
    // The policy asks for a method and a path as well: layer 4 cannot say yes.
    let gateway = super::istio::Identity { namespace: "mcp-production", service_account: "mcp-gateway" };
    let ruling = set.admits(tools.unwrap(), 8080, Some(gateway), testing::ip("10.0.0.1"));
    assert_eq!(ruling.answer, Answer::Unknown);
    let other = super::istio::Identity { namespace: "default", service_account: "default" };
    let ruling = set.admits(tools.unwrap(), 8080, Some(other), testing::ip("10.0.0.1"));
    assert_eq!(ruling.answer, Answer::Denied);
    assert_eq!(
        ruling.decided_by.to_string(),
        "AuthorizationPolicy mcp-production/tool-executor-authz, spec.rules"
    );
}
