//! What an audit finds, and what it is silent about.

use super::{Inventory, Options, Report, audit, explain};
use crate::{
    cluster::{self, Labels, Selector},
    findings::{FindingId, Severity},
    flows::Timestamp,
    policy::{Answer, Declared},
};

const PLATFORM: &str = include_str!("../../testdata/seed/platform.yaml");
const ISTIO: &str = include_str!("../../testdata/seed/istio.yaml");
const LINKERD: &str = include_str!("../../testdata/seed/linkerd.yaml");
const NOW: Options = Options { now: Timestamp(1_795_500_000_000_000_000) };

fn inventory(manifests: &[&str]) -> Inventory {
    let read = cluster::read_str("test.yaml", &manifests.join("\n---\n"));
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    Inventory::new(read.objects, read.templates, None)
}

fn report(manifests: &[&str]) -> Report {
    let report = audit(&inventory(manifests), &NOW);
    for posture in &report.findings {
        let fix = cluster::read_str("fix.yaml", &posture.fix);
        assert!(fix.errors.is_empty(), "{}: {:?}\n{}", posture.id.as_str(), fix.errors, posture.fix);
        assert!(!posture.fix.is_empty() && !posture.why.ends_with('.'), "{posture:?}");
        assert!(posture.decided_by.is_some(), "{posture:?}");
    }
    report
}

/// Findings about the tool executor, and about objects.
fn about(manifests: &[&str], name: &str) -> Vec<(FindingId, Severity)> {
    let found = report(manifests).findings;
    found
        .iter()
        .filter(|posture| posture.subject.name == name)
        .map(|posture| (posture.id, posture.severity))
        .collect()
}

use FindingId::*;
use Severity::*;

#[test]
fn what_is_declared_well_is_silent_but_for_its_exemption() {
    assert_eq!(about(&[PLATFORM, ISTIO], "tool-executor"), [(PortExempt, Info)]);
    let report = report(&[PLATFORM, ISTIO]);
    assert_eq!((report.workloads, report.mcp, report.namespaces), (5, 1, 1));
    assert!(report.findings[0].mcp, "MCP first");
}

#[test]
fn each_gap_is_found() {
    let strict = "spec:\n  mtls:\n    mode: STRICT";
    let exclude = PLATFORM.replacen(
        "sidecar.istio.io/status: \"{}\"",
        "sidecar.istio.io/status: \"{}\"\n    traffic.sidecar.istio.io/excludeInboundPorts: \"8080\"",
        1,
    );
    let no_sidecar = PLATFORM.replacen("  - name: istio-proxy\n", "", 1);
    let default_account =
        PLATFORM.replacen("serviceAccountName: tool-executor", "serviceAccountName: default", 1);
    let overdue = ISTIO.replacen(
        "name: mcp-mtls-strict",
        "name: mcp-mtls-strict\n  annotations:\n    plainsight.dev/permissive-until: \"2026-01-01\"",
        1,
    );
    let permissive = |text: &str| text.replace(strict, "spec:\n  mtls:\n    mode: PERMISSIVE");
    let namespace = PLATFORM.replacen("  name: mcp-production\n  labels:", "  name: mcp-production\n  annotations:\n    plainsight.dev/permissive-until: \"2026-01-01\"\n  labels:", 1);
    let callers = "principals:\n        - cluster.local/ns/mcp-production/sa/gateway\n        - cluster.local/ns/mcp-production/sa/audit";
    let wildcard = ISTIO.replace(callers, "principals: [\"*\"]");
    let exempt = (PortExempt, Info);
    for (what, manifests, expected) in [
        ("no sidecar", vec![no_sidecar.as_str(), ISTIO], vec![(NotMeshed, High)]),
        ("permissive", vec![PLATFORM, &permissive(ISTIO)], vec![(PermissiveMtls, Medium), exempt]),
        (
            "permissive past its day",
            vec![PLATFORM, &permissive(&overdue)],
            vec![(PermissiveOverdue, High), exempt],
        ),
        (
            "permissive past its namespace's day",
            vec![&namespace, &permissive(ISTIO)],
            vec![(PermissiveOverdue, High), exempt],
        ),
        (
            "disabled",
            vec![PLATFORM, &ISTIO.replace(strict, "spec:\n  mtls:\n    mode: DISABLE")],
            vec![(MtlsDisabled, High)],
        ),
        ("an excluded port", vec![&exclude, ISTIO], vec![(PortsExcluded, High), exempt]),
        ("a wildcard", vec![PLATFORM, &wildcard], vec![(WildcardPrincipal, Medium), exempt]),
        ("nothing", vec![PLATFORM], vec![(NoAuthorization, Medium), (PermissiveMtls, Medium)]),
        ("the default account", vec![&default_account, ISTIO], vec![(DefaultServiceAccount, Medium), exempt]),
    ] {
        let mut found = about(&manifests, "tool-executor");
        found.sort_by_key(|(id, severity)| (std::cmp::Reverse(*severity), id.as_str()));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn rules_and_exceptions_are_looked_at() {
    let off = ISTIO.replace("ISTIO_MUTUAL", "DISABLE");
    assert_eq!(about(&[PLATFORM, &off], "mcp-gateway-mtls-outbound"), [(DestinationRuleDowngrade, High)]);
    let second = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {namespace: mcp-production, name: z-second}\nspec: {host: \"*.mcp-production.svc.cluster.local\", trafficPolicy: {tls: {mode: DISABLE}}}\n";
    assert_eq!(about(&[PLATFORM, ISTIO, second], "z-second"), [(DestinationRuleConflict, Low)]);
    let ended = "apiVersion: plainsight.dev/v1alpha1\nkind: TrafficException\nmetadata: {namespace: mcp-production, name: old}\nspec: {owner: a, reason: b, expires: \"2026-01-01\"}\n";
    assert_eq!(about(&[PLATFORM, ISTIO, ended], "old"), [(ExceptionExpired, Low)]);
}

#[test]
fn an_exception_that_names_a_finding_lowers_it() {
    let exception = "apiVersion: plainsight.dev/v1alpha1\nkind: TrafficException\nmetadata: {namespace: mcp-production, name: e}\nspec: {selector: {matchLabels: {app: tool-executor}}, findings: [not-meshed], owner: a, reason: b, expires: \"2027-01-01\"}\n";
    let no_sidecar = PLATFORM.replacen("  - name: istio-proxy\n", "", 1);
    assert_eq!(about(&[&no_sidecar, ISTIO, exception], "tool-executor"), [(NotMeshed, Info)]);
}

#[test]
fn linkerd_is_looked_at() {
    let platform =
        PLATFORM.replace("istio-proxy", "linkerd-proxy").replace("istio-injection: enabled", "team: mesh");
    let found = about(&[&platform, LINKERD], "tool-executor");
    assert_eq!(found, [(LinkerdUnauthenticated, Medium)], "the ports without a Server");
    let open = LINKERD.replacen("proxyProtocol: HTTP/1", "accessPolicy: all-unauthenticated", 1);
    let found = about(&[&platform, &open], "tool-executor");
    assert!(found.contains(&(LinkerdServerUnprotected, Medium)), "{found:?}");
    assert_eq!(found.iter().filter(|(id, _)| *id == LinkerdUnauthenticated).count(), 2);
}

#[test]
fn a_template_is_what_would_run() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: mcp-production, name: tools}\nspec: {template: {metadata: {labels: {app: tool-executor}}, spec: {containers: [{name: a, ports: [{name: http, containerPort: 8080}]}]}}}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: mcp-production, labels: {istio-injection: enabled}}\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {namespace: mcp-production, name: s}\nspec: {selector: {app: tool-executor}, ports: [{name: mcp, port: 80, targetPort: http}]}\n";
    let found = about(&[deployment, namespace, service, ISTIO], "tools");
    assert_eq!(found, [(DefaultServiceAccount, Medium)], "in the mesh once it is there");
    assert!(about(&[deployment, service], "tools").contains(&(NotMeshed, High)), "nobody injects it");
}

#[test]
fn a_selector_says_who_speaks_mcp() {
    let read = cluster::read_str("test.yaml", PLATFORM);
    let selector = Selector { match_labels: Labels::from_iter([("app", "batch")]), ..Selector::default() };
    let inventory = Inventory::new(read.objects, read.templates, Some(&selector));
    assert_eq!(audit(&inventory, &NOW).mcp, 2, "and the Service's appProtocol says it of the other");
}

#[test]
fn the_order_does_not_depend_on_the_order_of_declarations() {
    let parts: Vec<&str> = PLATFORM.split("\n---\n").chain(ISTIO.split("\n---\n")).collect();
    let reversed: Vec<&str> = parts.iter().rev().copied().collect();
    assert_eq!(report(&parts), report(&reversed));
}

#[test]
fn a_pod_is_explained_with_what_decided() {
    let inventory = inventory(&[PLATFORM, ISTIO]);
    let explained = explain(&inventory, "mcp-production", "tool-executor", Some(8080), NOW.now).unwrap();
    let port = &explained.ports[0];
    let mode = port.mode.as_ref().unwrap();
    assert_eq!((mode.declared, mode.gap.is_none()), (Declared::Strict, true));
    let answers: Vec<_> =
        port.callers.iter().map(|caller| (caller.service_account.as_str(), caller.ruling.answer)).collect();
    assert_eq!(
        answers,
        [
            ("audit", Answer::Allowed),
            ("batch", Answer::Denied),
            ("gateway", Answer::Allowed),
            ("stranger", Answer::Denied),
            ("tool-executor", Answer::Denied),
        ]
    );
    assert_eq!(explained.member.ports.len(), 2);
    assert!(explain(&inventory, "mcp-production", "nobody", None, NOW.now).is_none());
}

#[test]
fn a_namespace_s_default_policy_of_linkerd_is_that_of_its_workloads() {
    let audited = |policy: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: mcp, annotations: {{linkerd.io/inject: enabled, config.linkerd.io/default-inbound-policy: {policy}}}}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{namespace: mcp, name: tools}}\nspec: {{template: {{metadata: {{labels: {{app: tools}}}}, spec: {{serviceAccountName: tools, containers: [{{name: main, ports: [{{name: http, containerPort: 8080}}]}}]}}}}}}\n"
        );
        let findings = report(&[&text]).findings;
        findings.iter().any(|posture| posture.id == LinkerdUnauthenticated)
    };
    assert!(audited("all-unauthenticated"));
    assert!(!audited("deny"));
}

#[test]
fn what_pods_of_a_workload_share_is_told_once_with_their_number() {
    let pod = |number: u8, container: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: mcp, name: tools-{number}, labels: {{app: tools, security.istio.io/tlsMode: istio}}, annotations: {{sidecar.istio.io/status: '{{}}', traffic.sidecar.istio.io/excludeInboundPorts: '8080'}}, ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: tools, controller: true}}]}}\nspec: {{serviceAccountName: tools, containers: [{{name: main, ports: [{{name: http, containerPort: 8080}}]}}, {{name: {container}}}]}}\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {namespace: mcp, name: tools}\nspec: {clusterIP: 10.96.0.9, selector: {app: tools}, ports: [{name: mcp, port: 80, targetPort: 8080}]}\n";
    let all = [pod(0, "istio-proxy"), pod(1, "istio-proxy"), pod(2, "other")];
    let found = report(&[&all[0], &all[1], &all[2], service]).findings;
    let of = |id| -> Vec<&str> {
        found.iter().filter(|posture| posture.id == id).map(|posture| posture.why.as_str()).collect()
    };
    for (id, words) in [
        (PortsExcluded, "(2 of its 3 pods)"),
        (NotMeshed, "(1 of its 3 pods)"),
        (PermissiveMtls, "(2 of its 3 pods)"),
    ] {
        let [why] = of(id)[..] else { panic!("{}: {:?}", id.as_str(), of(id)) };
        assert!(why.ends_with(words), "{}: {why}", id.as_str());
    }
    // What a policy says of all of them needs no number.
    let found = report(&[&all[0], &all[1], service]).findings;
    let permissive = found.iter().find(|posture| posture.id == PermissiveMtls).unwrap();
    assert!(!permissive.why.contains("pods"), "{}", permissive.why);
}
