//! Every fix is a manifest that says what it means, whatever the cluster's names are.

use std::sync::Arc;

use detector_ebpf::{
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};
use proptest::prelude::*;
use serde_json::Value;

use super::{Rules, evaluate, tests::flow};
use crate::{
    audit::{self, Inventory},
    cluster::{self, Holder, Store, objects::Object},
    flows::{End, Flow},
    policy::PolicyView,
    testing,
};

/// Words that YAML 1.1, which kubectl reads, or YAML 1.2 takes for something else than text.
const ODD: [&str; 21] = [
    "on",
    "off",
    "yes",
    "no",
    "y",
    "n",
    "true",
    "false",
    "null",
    "123",
    "0",
    "007",
    "0x10",
    "0o7",
    "0b1",
    "1e3",
    "12e03",
    "1-2-3",
    "2026-01-01",
    "nan",
    "inf",
];

/// A name that a namespace can have.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(&ODD[..]).prop_map(str::to_owned), "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"]
}

/// Names of what stands in the scenario.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) namespace: String,
    pub(super) server: String,
    pub(super) client: String,
    pub(super) policy: String,
}

fn names() -> impl Strategy<Value = Names> {
    (name(), name(), name(), name())
        .prop_filter("pods differ", |(_, server, client, _)| server != client)
        .prop_map(|(namespace, server, client, policy)| Names { namespace, server, client, policy })
}

pub(super) const MESHES: [&str; 4] = ["none", "istio", "linkerd", "ours"];

/// A server and a client in a mesh, and what is declared for the server.
pub(super) fn manifests(
    mesh: &str,
    mode: &str,
    Names { namespace, server, client, policy }: &Names,
) -> String {
    let (label, annotation, proxy) = match mesh {
        "istio" => ("security.istio.io/tlsMode: istio", "sidecar.istio.io/status: \"{}\"", "istio-proxy"),
        "linkerd" => ("linkerd.io/control-plane-ns: linkerd", "a: b", "linkerd-proxy"),
        _ => ("c: d", "a: b", "other"),
    };
    let pod = |name: &str, address: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace:?}, name: {name:?}, labels: {{app: {name:?}, {label}}}, annotations: {{{annotation}}}}}\nspec: {{serviceAccountName: {name:?}, containers: [{{name: main, ports: [{{name: mcp, containerPort: 8080}}]}}, {{name: {proxy}}}]}}\nstatus: {{podIP: {address}}}\n"
        )
    };
    let meta = format!("metadata: {{namespace: {namespace:?}, name: {policy:?}}}");
    let select = format!("selector: {{matchLabels: {{app: {server:?}}}}}");
    let declared = match mesh {
        "istio" => format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n{meta}\nspec: {{{select}, mtls: {{mode: {mode}}}}}\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n{meta}\nspec: {{{select}}}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n{meta}\nspec: {{host: {server:?}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}\n"
        ),
        "linkerd" => format!(
            "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\n{meta}\nspec: {{podSelector: {{matchLabels: {{app: {server:?}}}}}, port: 8080, accessPolicy: {}}}\n",
            if mode == "STRICT" { "deny" } else { "all-unauthenticated" }
        ),
        "ours" => format!(
            "---\napiVersion: plainsight.dev/v1alpha1\nkind: ExpectedSources\n{meta}\nspec: {{{select}, serviceAccounts: []}}\n---\napiVersion: plainsight.dev/v1alpha1\nkind: TrafficException\n{meta}\nspec: {{{select}, owner: o, reason: r, expires: 2020-01-01}}\n"
        ),
        _ => String::new(),
    };
    let service = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace:?}, name: {server:?}}}\nspec: {{clusterIP: 10.96.0.9, selector: {{app: {server:?}}}, ports: [{{name: mcp, port: 80, targetPort: 8080}}]}}\n"
    );
    let namespace = format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace:?}}}\n");
    namespace + &pod(server, "10.244.0.1") + &pod(client, "10.244.0.2") + &service + &declared
}

/// Every fix that there is for what goes on and for what is declared.
pub(super) fn fixes(text: &str) -> Vec<String> {
    let read = cluster::read_str("world.yaml", text);
    assert!(read.errors.is_empty(), "{:?}\n{text}", read.errors);
    let inventory = Inventory::new(read.objects.clone(), read.templates, None);
    let now = testing::mcp_flow().last_seen;
    let posture = audit::audit(&inventory, &audit::Options { now }).findings;
    let mut fixes: Vec<String> = posture.into_iter().map(|posture| posture.fix).collect();
    let mut store = Store::default();
    store.reset(read.objects);
    let pod = |address: &str| match store.lookup(testing::ip(address)) {
        Some(Holder::Pod(pod)) => pod,
        other => panic!("{other:?}"),
    };
    let (server, client) = (pod("10.244.0.1"), pod("10.244.0.2"));
    let at = testing::ip("10.244.0.2");
    let clients = [
        End::Pod { pod: Arc::clone(&client), address: at },
        End::Unknown { address: testing::ip("10.244.9.9") },
        End::Spoofed { owner: Arc::clone(&server), sender: client, address: at },
    ];
    for client in clients {
        for (verdict, protocol) in [
            (Verdict::Plaintext, Protocol::Mcp),
            (Verdict::MeshMtls, Protocol::None),
            (Verdict::Tls, Protocol::None),
        ] {
            let flow = Flow {
                client: client.clone(),
                server: End::Pod { pod: Arc::clone(&server), address: testing::ip("10.96.0.9") },
                verdict,
                ..flow(8080, protocol, Evidence::ANSWERED)
            };
            let findings = evaluate(&flow, &PolicyView::of(&store, &flow), Rules { plaintext_other: true });
            fixes.extend(findings.into_iter().map(|finding| finding.fix));
        }
    }
    fixes
}

/// Every value of a manifest that is a name must be text, and be one of `known` or made from one.
fn check(value: &Value, known: &Names, fix: &str) -> Result<(), TestCaseError> {
    let Names { namespace, server, client, policy } = known;
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                if ["name", "namespace", "app", "host"].contains(&key.as_str()) {
                    let Value::String(text) = value else {
                        return Err(TestCaseError::fail(format!("{key}: {value} is no text\n{fix}")));
                    };
                    let whole = [namespace, server, client, policy].into_iter().any(|name| name == text);
                    let made = text.starts_with(&format!("{server}-"))
                        || text.starts_with(&format!("{client}-"))
                        || *text == format!("{server}.{namespace}.svc.cluster.local");
                    // A PeerAuthentication for a namespace is called default.
                    prop_assert!(whole || made || text == "default", "{}: {}\n{}", key, text, fix);
                }
                check(value, known, fix)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, known, fix)),
        _ => Ok(()),
    }
}

/// Fails where a word stands plain that kubectl's YAML, which is 1.1, takes for something else than text.
fn is_quoted(fix: &str) -> Result<(), TestCaseError> {
    for line in fix.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let value = line.rsplit_once(": ").map_or(line, |(_, value)| value);
        for value in value.trim_start_matches("- ").trim_matches(['[', ']']).split(", ") {
            prop_assert!(
                !ODD.contains(&value) || line.contains(&format!("port: {value}")),
                "{}\n{}",
                line,
                fix
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_fix_has_the_names_that_it_is_about(
        names in names(),
        mesh in prop::sample::select(&MESHES[..]),
        mode in prop::sample::select(&["STRICT", "PERMISSIVE", "DISABLE"][..]),
    ) {
        let mut manifests_seen = 0;
        for fix in fixes(&manifests(mesh, mode, &names)) {
            is_quoted(&fix)?;
            let read = cluster::read_str("fix.yaml", &fix);
            prop_assert!(read.errors.is_empty(), "{:?}\n{}", read.errors, fix);
            for object in &read.objects {
                let Object::Policy(object) = object else { continue };
                prop_assert!(object.unknown_fields().is_empty(), "{:?}\n{}", object.unknown_fields(), fix);
            }
            for text in fix.split("---\n") {
                let Some(manifest) = serde_saphyr::from_str::<Option<Value>>(text).unwrap() else { continue };
                prop_assert!(manifest["metadata"]["name"].is_string(), "{}", fix);
                prop_assert_eq!(manifest["metadata"]["namespace"].is_string(), manifest["kind"] != "Namespace");
                check(&manifest, &names, &fix)?;
                manifests_seen += 1;
            }
        }
        prop_assert!(manifests_seen > 2, "{}", manifests_seen);
    }
}

#[test]
fn a_name_that_is_too_long_is_cut_where_it_may_end() {
    let names = Names {
        namespace: "n".to_owned(),
        server: "s".repeat(244) + "-x.y",
        client: "c".repeat(253),
        policy: "p".to_owned(),
    };
    for fix in fixes(&manifests("istio", "STRICT", &names)) {
        let read = cluster::read_str("fix.yaml", &fix);
        assert!(read.errors.is_empty(), "{:?}\n{fix}", read.errors);
        for object in read.objects {
            let Object::Policy(object) = object else { continue };
            let name = object.key().name.name;
            assert!(name.len() <= 253 && name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
        }
    }
}
