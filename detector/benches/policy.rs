//! What it costs to judge an edge by ten thousand policy objects. The bar is 20 µs.
#![expect(clippy::indexing_slicing, reason = "within the bounds by the remainder")]

use std::{fmt::Write as _, hint::black_box, net::IpAddr, time::Instant};

use detector::{
    cluster::{self, objects::Object},
    flows::Timestamp,
    policy::{Dialled, PolicySet, PolicyView},
};

const OBJECTS: usize = 10_000;
const NAMESPACES: usize = 50;
const EDGES: usize = 200_000;

fn main() {
    let mut text = String::new();
    for number in 0..OBJECTS / 5 {
        let namespace = format!("ns{}", number % NAMESPACES);
        let selector = format!("selector: {{matchLabels: {{app: app{number}}}}}");
        let object = |version: &str, kind: &str, spec: &str| {
            format!(
                "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: o{number}}}\nspec: {spec}\n"
            )
        };
        for (version, kind, spec) in [
            ("security.istio.io/v1", "PeerAuthentication", format!("{{{selector}, mtls: {{mode: STRICT}}}}")),
            (
                "security.istio.io/v1",
                "AuthorizationPolicy",
                format!(
                    "{{{selector}, rules: [{{from: [{{source: {{principals: [\"*/sa/app{number}\", \"*/sa/gateway\"]}}}}]}}]}}"
                ),
            ),
            (
                "networking.istio.io/v1",
                "DestinationRule",
                format!("{{host: app{number}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}}}"),
            ),
            (
                "policy.linkerd.io/v1beta3",
                "Server",
                format!("{{podSelector: {{matchLabels: {{app: app{number}}}}}, port: 8080}}"),
            ),
            (
                "plainsight.dev/v1alpha1",
                "TrafficException",
                format!("{{{selector}, owner: a, reason: b, expires: \"2030-01-01\"}}"),
            ),
        ] {
            text.push_str(&object(version, kind, &spec));
        }
        let _infallible = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: app{number}, labels: {{app: app{number}, tier: x, security.istio.io/tlsMode: istio}}, annotations: {{sidecar.istio.io/status: x}}}}\nspec: {{serviceAccountName: app{number}, containers: [{{name: istio-proxy}}]}}\n"
        );
    }
    let read = cluster::read_str("bench.yaml", &text);
    assert!(read.errors.is_empty(), "{:?}", read.errors.first());
    let (mut set, mut pods) = (PolicySet::default(), Vec::new());
    for object in read.objects {
        match object {
            Object::Policy(object) => {
                set.apply(*object);
            }
            Object::Pod(pod) => pods.push(pod),
            _ => {}
        }
    }
    let address = IpAddr::from([10, 0, 0, 9]);
    let judge = |edge: usize| {
        let (client, server) = (&pods[edge % pods.len()], &pods[edge * 7 % pods.len()]);
        let dialled = Some(Dialled { service: &server.name, port: 80, guessed: false });
        PolicyView::of_edge(&set, (Some(client), address), (server, address), 8080, dialled, Timestamp(1))
    };
    let start = Instant::now();
    black_box(judge(0));
    println!("{} objects, index made in {:?}", set.len(), start.elapsed());
    let start = Instant::now();
    for edge in 0..EDGES {
        black_box(judge(edge));
    }
    let each = start.elapsed() / u32::try_from(EDGES).unwrap_or(u32::MAX);
    println!("{EDGES} edges, {each:?} an edge, the bar is 20 µs");
}
