//! Membership and intent, a row for each rule of how injectors mark pods.

use super::{MeshKind, PodMesh, PodParts, intended};
use crate::cluster::Labels;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_iter(pairs.iter().copied())
}

#[test]
fn membership_is_what_was_done_to_the_pod() {
    use MeshKind::{Ambient, Istio, Linkerd};
    const STATUS: (&str, &str) = ("sidecar.istio.io/status", "{}");
    const TLS: (&str, &str) = ("security.istio.io/tlsMode", "istio");
    const PLANE: (&str, &str) = ("linkerd.io/control-plane-ns", "linkerd");
    let redirected = |value| [("ambient.istio.io/redirection", value)];
    for (rule, on_labels, annotations, containers, host_network, expected) in [
        ("a sidecar", &[TLS][..], &[STATUS][..], &["app", "istio-proxy"][..], false, Some(Istio)),
        (
            "a native sidecar is an init container",
            &[TLS],
            &[STATUS],
            &["init istio-proxy", "app"],
            false,
            Some(Istio),
        ),
        ("a status without a proxy", &[], &[STATUS], &["app"], false, None),
        ("a proxy that nobody injected", &[], &[], &["app", "istio-proxy"], false, None),
        ("the node's network is never injected", &[TLS], &[STATUS], &["app", "istio-proxy"], true, None),
        ("the wish alone", &[("sidecar.istio.io/inject", "true")], &[], &["app"], false, None),
        ("ambient", &[], &redirected("enabled"), &["app"], false, Some(Ambient)),
        ("ambient, not yet", &[], &redirected("pending"), &["app"], false, None),
        ("Linkerd", &[PLANE], &[], &["app", "linkerd-proxy"], false, Some(Linkerd)),
        ("Linkerd, native", &[PLANE], &[], &["init linkerd-proxy", "app"], false, Some(Linkerd)),
        ("Linkerd's wish alone", &[], &[("linkerd.io/inject", "enabled")], &["app"], false, None),
        ("nothing", &[], &[], &["app"], false, None),
    ] {
        let init: Vec<&str> = containers.iter().filter_map(|name| name.strip_prefix("init ")).collect();
        let mesh = PodMesh::read(PodParts {
            labels: &labels(on_labels),
            annotations: &labels(annotations),
            containers,
            init_containers: &init,
            host_network,
        });
        assert_eq!(mesh.mesh(), expected, "{rule}");
        let name = match (expected, init.is_empty()) {
            (None, _) => "none",
            (Some(Istio), true) => "istio-sidecar",
            (Some(Istio), false) => "istio-native-sidecar",
            (Some(Ambient), _) => "istio-ambient",
            (Some(Linkerd), _) => "linkerd",
        };
        assert_eq!(mesh.as_str(), name, "{rule}");
    }
}

#[test]
fn booleans_are_read_as_the_cni_reads_them() {
    for (value, bypass) in
        [("true", true), ("1", true), ("True", true), ("false", false), ("yes", false), ("", false)]
    {
        let mesh = PodMesh::read(PodParts {
            labels: &labels(&[]),
            annotations: &labels(&[
                ("ambient.istio.io/redirection", "enabled"),
                ("ambient.istio.io/bypass-inbound-capture", value),
            ]),
            containers: &["app"],
            init_containers: &[],
            host_network: false,
        });
        assert_eq!(mesh.membership.map(|membership| membership.bypass_inbound), Some(bypass), "{value:?}");
    }
}

#[test]
fn scrapes_and_gateways_are_known_by_their_marks() {
    let read = |on: &[(&str, &str)], annotations: &[(&str, &str)]| {
        let (labels, annotations) = (labels(on), labels(annotations));
        let parts = PodParts {
            labels: &labels,
            annotations: &annotations,
            containers: &[],
            init_containers: &[],
            host_network: false,
        };
        PodMesh::read(parts)
    };
    let port = ("prometheus.io/port", "9090");
    assert_eq!(read(&[], &[port, ("prometheus.io/scrape", "true")]).scrape_port, Some(9090));
    assert_eq!(read(&[], &[port]).scrape_port, None);
    assert!(read(&[("istio", "ingressgateway")], &[]).intermediary);
    assert!(read(&[("gateway.networking.k8s.io/gateway-name", "w")], &[]).intermediary);
    assert!(!read(&[("istio", "pilot")], &[]).intermediary);
    // A gateway of Istio's chart, whose release is called istio-ingress.
    assert!(read(&[("istio", "ingress")], &[("inject.istio.io/templates", "gateway")]).intermediary);
    assert!(read(&[], &[("inject.istio.io/templates", "spire, gateway")]).intermediary);
    assert!(!read(&[("istio", "ingress")], &[("inject.istio.io/templates", "sidecar,spire")]).intermediary);
}

#[test]
fn the_wish_is_the_pod_s_before_the_namespace_s() {
    use MeshKind::{Ambient, Istio, Linkerd};
    const NONE: &[(&str, &str)] = &[];
    let enabled = &[("istio-injection", "enabled")][..];
    let revision = &[("istio.io/rev", "canary")][..];
    let ambient = &[("istio.io/dataplane-mode", "ambient")][..];
    let linkerd = &[("linkerd.io/inject", "enabled")][..];
    let inject = |value| [("sidecar.istio.io/inject", value)];
    for (rule, on, annotations, ns, ns_annotations, expected) in [
        ("a namespace that injects", NONE, NONE, enabled, NONE, Some(Istio)),
        ("a revision", NONE, NONE, revision, NONE, Some(Istio)),
        ("a pod that opts out", &inject("false")[..], NONE, enabled, NONE, None),
        ("the label beats the annotation", &inject("true"), &inject("false")[..], NONE, NONE, Some(Istio)),
        ("a namespace that is closed", &inject("true"), NONE, &[("istio-injection", "disabled")], NONE, None),
        ("ambient", NONE, NONE, ambient, NONE, Some(Ambient)),
        ("a pod that opts out of ambient", &[("istio.io/dataplane-mode", "none")], NONE, ambient, NONE, None),
        ("Linkerd", NONE, NONE, NONE, linkerd, Some(Linkerd)),
        ("a pod that opts out of Linkerd", NONE, &[("linkerd.io/inject", "disabled")], NONE, linkerd, None),
        ("nothing", NONE, NONE, NONE, NONE, None),
    ] {
        let found = intended(&labels(on), &labels(annotations), &labels(ns), &labels(ns_annotations), false);
        assert_eq!(found, expected, "{rule}");
    }
    assert_eq!(intended(&labels(NONE), &labels(NONE), &labels(enabled), &labels(NONE), true), None);
}
