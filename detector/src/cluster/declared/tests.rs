//! What bad objects get: an error that names object and field, while all others count.

use crate::{
    cluster::{self, objects::Object},
    policy::PolicyObject,
};

fn read(group: &str, kind: &str, spec: &str) -> Result<PolicyObject, String> {
    let good = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: good}\n";
    let text = format!(
        "---\napiVersion: {group}\nkind: {kind}\nmetadata: {{namespace: mcp, name: bad}}\nspec: {spec}\n{good}"
    );
    let mut manifests = cluster::read_str("test.yaml", &text);
    assert!(matches!(manifests.objects.pop(), Some(Object::Namespace(_))), "the rest counts");
    match (manifests.objects.pop(), manifests.errors.pop()) {
        (Some(Object::Policy(object)), None) => Ok(*object),
        (None, Some(error)) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invalid_object_is_named_with_its_field() {
    let security = "security.istio.io/v1";
    let linkerd = "policy.linkerd.io/v1beta3";
    let ours = "plainsight.dev/v1alpha1";
    let whole = "owner: a, reason: b, expires: \"2026-12-01\"";
    for (group, kind, spec, field, why) in [
        (
            security,
            "PeerAuthentication",
            "{mtls: {mode: NOPE}}".to_owned(),
            "spec.mtls.mode",
            "unknown variant `NOPE`",
        ),
        (
            security,
            "PeerAuthentication",
            "{portLevelMtls: {http: {}}}".to_owned(),
            "spec.portLevelMtls",
            "number",
        ),
        (
            security,
            "PeerAuthentication",
            "{selector: {matchLabel: {a: b}}}".to_owned(),
            "spec.selector.matchLabel",
            "unknown field",
        ),
        (
            security,
            "PeerAuthentication",
            "{selector: {matchExpressions: [{key: a, operator: Exists}]}}".to_owned(),
            "spec.selector.matchExpressions",
            "matchLabels alone",
        ),
        (security, "AuthorizationPolicy", "{action: PERMIT}".to_owned(), "spec.action", "unknown variant"),
        (
            security,
            "AuthorizationPolicy",
            "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/40]}}]}]}".to_owned(),
            "spec.rules.0.from.0.source.ipBlocks",
            "no network",
        ),
        (
            security,
            "AuthorizationPolicy",
            "{rules: [{to: [{operation: {ports: [http]}}]}]}".to_owned(),
            "spec.rules.0.to.0.operation.ports",
            "no port",
        ),
        ("networking.istio.io/v1", "DestinationRule", "{}".to_owned(), "spec", "missing field `host`"),
        (
            "networking.istio.io/v1",
            "DestinationRule",
            "{host: a, trafficPolicy: {tls: {mode: STRICT}}}".to_owned(),
            "spec.trafficPolicy.tls.mode",
            "unknown variant",
        ),
        (linkerd, "Server", "{port: 80}".to_owned(), "spec.podSelector", "missing"),
        (
            linkerd,
            "Server",
            "{podSelector: {}, port: 80, accessPolicy: some}".to_owned(),
            "spec.accessPolicy",
            "no access policy",
        ),
        (
            "policy.linkerd.io/v1beta1",
            "ServerAuthorization",
            "{server: {}, client: {}}".to_owned(),
            "spec.server",
            "neither",
        ),
        (
            ours,
            "TrafficException",
            "{reason: b, expires: \"2026-12-01\"}".to_owned(),
            "spec",
            "missing field `owner`",
        ),
        (
            ours,
            "TrafficException",
            "{owner: a, reason: \" \", expires: \"2026-12-01\"}".to_owned(),
            "spec.reason",
            "empty",
        ),
        (ours, "TrafficException", "{owner: a, reason: b}".to_owned(), "spec", "missing field `expires`"),
        (
            ours,
            "TrafficException",
            "{owner: a, reason: b, expires: soon}".to_owned(),
            "spec.expires",
            "no time",
        ),
        (ours, "TrafficException", format!("{{{whole}, port: 80}}"), "spec.port", "unknown field"),
        (ours, "TrafficException", format!("{{{whole}, peers: [{{}}]}}"), "spec.peers.0", "everybody"),
        (
            ours,
            "TrafficException",
            format!("{{{whole}, findings: [plaintext]}}"),
            "spec.findings",
            "no finding",
        ),
        ("plainsight.dev/v2", "TrafficException", format!("{{{whole}}}"), "apiVersion", "not known"),
    ] {
        let error = read(group, kind, &spec).unwrap_err();
        let place = format!("{kind} mcp/bad: {field}");
        assert!(error.contains(&place), "{error:?} has no {place:?}");
        assert!(error.contains(why), "{error:?} has no {why:?}");
    }
}

#[test]
fn a_field_that_is_not_known_is_noted() {
    let object =
        read("security.istio.io/v1", "PeerAuthentication", "{mtls: {mode: STRICT, moon: full}, sun: 1}")
            .unwrap();
    assert_eq!(object.unknown_fields(), ["spec.mtls.moon".into(), "spec.sun".into()]);
    let spec = "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE, sni: x}}}";
    let object = read("networking.istio.io/v1", "DestinationRule", spec).unwrap();
    assert_eq!(object.unknown_fields(), [], "known, and of no matter");
}

#[test]
fn a_deadline_that_is_no_time_is_an_error() {
    let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: mcp, name: a, annotations: {plainsight.dev/permissive-until: soon}}\n";
    let errors = cluster::read_str("test.yaml", text).errors;
    assert!(
        errors[0].to_string().contains("metadata.annotations[plainsight.dev/permissive-until]"),
        "{errors:?}"
    );
}

#[test]
fn somebody_else_s_config_map_is_none_of_ours() {
    for (name, data) in
        [("istio", "{other: x}"), ("istio-ca-root-cert", "{root-cert.pem: x}"), ("app", "{mesh: x}")]
    {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: n, name: {name}}}\ndata: {data}\n"
        );
        let read = cluster::read_str("test.yaml", &text);
        assert_eq!((read.objects.len(), read.errors.len()), (0, 0), "{name}");
    }
}
