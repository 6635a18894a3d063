//! Owns the remedies: manifests that apply as they stand, with comments that say what they do.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    cluster::{
        objects::{Name, Pod},
        scalar,
    },
    flows::{End, Flow},
    policy::{Declared, Kind, MeshKind, PolicyView, PortMode, own::TrafficException},
    printable::{printable, printed},
};

/// Labels that one revision or one pod has: a selector by them would miss the next one.
const PASSING_LABELS: [&str; 8] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// Whether a label is the workload's own: not of one pod, and not put there by a mesh.
fn is_lasting(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let mesh = domain.ends_with("istio.io") || domain == "linkerd.io";
    !mesh && !PASSING_LABELS.contains(&key)
}

/// How to have plaintext to the server refused.
pub(super) fn encrypt(flow: &Flow, policy: &PolicyView) -> String {
    let Some(pod) = flow.server.pod() else {
        return match &flow.server {
            End::External { address } => format!(
                "# {address} is outside the cluster: have the client use https, or an egress gateway that originates TLS.\n"
            ),
            _ => "# Serve this port with TLS, and have its clients use https.\n".to_owned(),
        };
    };
    if pod.proxy.router {
        return format!(
            "# A listener of the Gateway of {} takes plaintext at port {}. Give it TLS: spec.servers[].tls of\n# networking.istio.io Gateway, spec.listeners[].tls of gateway.networking.k8s.io Gateway.\n",
            pod.name, flow.port
        );
    }
    let namespace = scalar(&pod.name.namespace);
    match &policy.mode {
        // The mesh declares it already, and this pod is outside.
        None if policy.unbound.is_some() => inject(
            pod,
            &format!(
                "{} is in no mesh, so what is declared for the mesh does not bind it. Put it there.",
                pod.name
            ),
        ),
        Some(mode) if mode.mesh == Some(MeshKind::Linkerd) => format!(
            "# Admit peers of the mesh alone. First put its clients in the mesh, or they are cut off.\n\
             apiVersion: policy.linkerd.io/v1beta3\n\
             kind: Server\n\
             metadata:\n  namespace: {namespace}\n  name: {}\n\
             spec:\n{}  port: {}\n  accessPolicy: all-authenticated\n",
            name(pod, &flow.port.to_string()),
            pod_selector(pod),
            flow.port,
        ),
        // It is declared already, and nothing enforces it.
        Some(PortMode { declared: Declared::Strict, .. }) => strict(flow, policy),
        _ => {
            let strict = super::posture::strict(pod, policy.workload_policy.as_deref());
            if pod.proxy.mesh().is_some() {
                strict
            } else {
                format!(
                    "# Without a mesh: serve the port with TLS, and have its clients use https. With Istio:\n{strict}"
                )
            }
        }
    }
}

/// How to have what is declared enforced, or its clients heed it.
pub(super) fn strict(flow: &Flow, policy: &PolicyView) -> String {
    let Some(server) = flow.server.pod() else { return encrypt(flow, policy) };
    let gap = policy.mode.as_ref().and_then(|mode| mode.gap.as_ref());
    match gap {
        Some(_) if server.proxy.mesh().is_none() => inject(
            server,
            &format!("No proxy stands before {}, so what is declared is not enforced.", server.name),
        ),
        Some(gap) => format!(
            "# Take the port out of {} in the template of {} {}/{}, and roll it out.\n",
            printed(gap),
            server.workload.kind.as_str(),
            server.name.namespace,
            server.workload.name,
        ),
        None => rejoin(flow, policy),
    }
}

/// How to have a client speak the mesh's mTLS.
pub(super) fn rejoin(flow: &Flow, policy: &PolicyView) -> String {
    let End::Pod { pod: client, .. } = &flow.client else { return known_sources_only(flow) };
    if client.proxy.mesh().is_none() {
        return inject(
            client,
            &format!("{} is not in the mesh. If it should call at all, put it there.", client.name),
        );
    }
    let told = policy.client.as_ref();
    if let (Some(told), Some(host)) = (told, &policy.rule_host)
        && let Some(rule) = told.decided_by.object()
    {
        return istio_mutual(&rule.name, host);
    }
    match told {
        Some(told) => format!("# The client's proxy leaves this connection alone: {}.\n", told.decided_by),
        None => "# Have the client dial the service by its name, so that its proxy takes the connection.\n"
            .to_owned(),
    }
}

/// How to have a rule's clients speak mTLS.
pub(super) fn istio_mutual(rule: &Name, host: &str) -> String {
    format!(
        "# Have clients speak the mesh's mTLS. Keep what else the rule says; without it, auto mTLS does the same.\n\
         apiVersion: networking.istio.io/v1\n\
         kind: DestinationRule\n\
         metadata:\n  namespace: {}\n  name: {}\n\
         spec:\n  host: {host:?}\n  trafficPolicy:\n    tls:\n      mode: ISTIO_MUTUAL\n",
        scalar(&rule.namespace),
        scalar(&rule.name),
    )
}

/// Whether a pod is in Linkerd.
pub(super) fn is_linkerd(pod: &Pod) -> bool {
    pod.proxy.mesh() == Some(MeshKind::Linkerd)
}

/// What to do with a port that is declared to take plaintext.
pub(super) fn exempt(flow: &Flow, policy: &PolicyView) -> String {
    let by = policy.mode.as_ref().map(|mode| mode.decided_by.to_string()).unwrap_or_default();
    format!(
        "# Nothing, if port {} must take plaintext. The kubelet's probes do not need it: a mesh lets them in.\n# To end it, take {by} away.\n",
        flow.port
    )
}

/// What to do with an exception that has ended.
pub(crate) fn ended(exception: &TrafficException) -> String {
    let Name { namespace, name } = &exception.meta.name;
    format!(
        "# Have the traffic encrypted, then: kubectl -n {namespace} delete trafficexception {name}\n# Or have {} set spec.expires anew.\n",
        printable(&exception.owner)
    )
}

/// Namespaces whose pods Istio leaves alone whatever their labels say (pkg/kube/inject/initializer.go,
/// `IgnoredNamespaces`), and that a label must not be put on: what all else needs runs there.
const OUTSIDE: [&str; 4] = ["kube-node-lease", "kube-public", "kube-system", "local-path-storage"];

/// How to put a pod in the mesh.
pub(super) fn inject(pod: &Pod, why: &str) -> String {
    let namespace = &pod.name.namespace;
    if pod.host_network {
        return format!(
            "# {why}\n# It shares its node's network, where no mesh stands before it: take spec.hostNetwork out of the\n# template of {} {namespace}/{}, or have it serve TLS itself.\n",
            pod.workload.kind.as_str(),
            pod.workload.name,
        );
    }
    if OUTSIDE.contains(&&**namespace) {
        return format!(
            "# {why}\n# Nothing is injected into {namespace}: leave it outside, and have it serve TLS itself where it must.\n"
        );
    }
    format!(
        "# {why}\n# With Istio; with Linkerd it is the annotation linkerd.io/inject: enabled. Then restart it:\n\
         # kubectl -n {namespace} rollout restart {} {}\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  name: {}\n  labels:\n    istio-injection: enabled\n",
        pod.workload.kind.as_str().to_lowercase(),
        pod.workload.name,
        scalar(namespace),
    )
}

/// How to declare the caller, and what to do if it should not call.
pub(super) fn expect(flow: &Flow, policy: &PolicyView) -> String {
    let (End::Pod { pod: client, .. }, Some(server)) = (&flow.client, flow.server.pod()) else {
        return known_sources_only(flow);
    };
    let account =
        Name { namespace: Arc::clone(&client.name.namespace), name: Arc::clone(&client.service_account) };
    let head = format!(
        "# If this caller is right, declare it. If it is not, stop {} {}/{} and revoke what it could reach.\n",
        client.workload.kind.as_str(),
        client.name.namespace,
        client.workload.name,
    );
    let by = policy.source.decided_by.object().map(|object| object.kind);
    let manifest = match (by, &policy.sources) {
        (_, Some(sources)) => sources.manifest_with(&account),
        (Some(Kind::AuthorizationPolicy), _)
            if policy.source.decided_by.to_string().contains("spec.rules[") =>
        {
            return format!(
                "{head}# A rule denies it, and a denial wins: change {}.\n",
                policy.source.decided_by
            );
        }
        (Some(Kind::AuthorizationPolicy), _) => {
            admit_istio(server, (!policy.tunnelled).then_some(flow.port), &account)
        }
        _ => match &policy.server {
            Some(of) => admit_linkerd(server, of, &account),
            // By default nobody is admitted, or nobody without an identity.
            None => return format!("{head}# It is admitted once {} says so.\n", policy.source.decided_by),
        },
    };
    format!("{head}{manifest}")
}

/// What admits one more caller at Istio: policies that allow add up.
fn admit_istio(server: &Pod, port: Option<u16>, account: &Name) -> String {
    let to = port
        .map_or_else(String::new, |port| format!("    to:\n    - operation:\n        ports: [\"{port}\"]\n"));
    format!(
        "apiVersion: security.istio.io/v1\n\
         kind: AuthorizationPolicy\n\
         metadata:\n  namespace: {}\n  name: {}\n\
         spec:\n{}  action: ALLOW\n  rules:\n  - from:\n    - source:\n        principals: [\"cluster.local/ns/{}/sa/{}\"]\n{to}",
        scalar(&server.name.namespace),
        name(server, &format!("from-{}", account.name)),
        selector(server, "selector"),
        account.namespace,
        account.name,
    )
}

/// What admits one more caller at Linkerd: authorizations add up.
fn admit_linkerd(server: &Pod, of: &str, account: &Name) -> String {
    let (namespace, of) = (scalar(&server.name.namespace), scalar(of));
    let name = name(server, &format!("from-{}", account.name));
    format!(
        "apiVersion: policy.linkerd.io/v1alpha1\n\
         kind: MeshTLSAuthentication\n\
         metadata:\n  namespace: {namespace}\n  name: {name}\n\
         spec:\n  identityRefs:\n  - kind: ServiceAccount\n    namespace: {}\n    name: {}\n\
         ---\n\
         apiVersion: policy.linkerd.io/v1alpha1\n\
         kind: AuthorizationPolicy\n\
         metadata:\n  namespace: {namespace}\n  name: {name}\n\
         spec:\n  targetRef:\n    group: policy.linkerd.io\n    kind: Server\n    name: {of}\n  requiredAuthenticationRefs:\n  - group: policy.linkerd.io\n    kind: MeshTLSAuthentication\n    name: {name}\n",
        scalar(&account.namespace),
        scalar(&account.name),
    )
}

/// How to keep a pod from sending with another's address.
pub(super) fn stop_spoofing(flow: &Flow) -> String {
    let Some(sender) = flow.client.pod() else { return String::new() };
    let (kind, namespace) = (sender.workload.kind.as_str(), &sender.name.namespace);
    format!(
        "# To send with another pod's address takes CAP_NET_RAW or CAP_NET_ADMIN, which a pod must not have. Find out\n\
         # what {kind} {namespace}/{} does. This refuses pods with such capabilities in its namespace from now on;\n\
         # pods that are there stay until they are deleted:\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  name: {}\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n",
        sender.workload.name,
        scalar(namespace),
    )
}

/// What to look at where a server name is not the server's.
pub(super) fn right_identity(server: &Pod) -> String {
    format!(
        "# The client's proxy takes no other identity than the one that it asks for, so these connections fail. As a\n\
         # rule its endpoints are old, or the address has passed to another pod. Compare who has it:\n\
         # kubectl get endpointslices,pods -A -o wide | grep {}\n",
        server.addresses.iter().next().map_or_else(|| server.name.to_string(), |address| address.to_string()),
    )
}

/// How to admit pods of the cluster only.
pub(super) fn known_sources_only(flow: &Flow) -> String {
    let Some(pod) = flow.server.pod() else {
        return "# Find out who has this address: the cloud's console, or `kubectl get pods -A -o wide`.\n"
            .to_owned();
    };
    format!(
        "# Find out who has {}. This admits pods of the cluster only, where the network plugin enforces it:\n\
         apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata:\n  namespace: {}\n  name: {}\n\
         spec:\n{}  policyTypes: [Ingress]\n  ingress:\n  - from:\n    - namespaceSelector: {{}}\n",
        flow.client.address(),
        scalar(&pod.name.namespace),
        name(pod, "pods-only"),
        pod_selector(pod),
    )
}

/// The pod's lasting labels as a `podSelector`, which unlike the others must be there.
pub(super) fn pod_selector(pod: &Pod) -> String {
    let some = selector(pod, "podSelector");
    if some.is_empty() { "  podSelector: {}\n".to_owned() } else { some }
}

pub(super) fn name(pod: &Pod, what: &str) -> String {
    let mut name = format!("{}-{what}", pod.workload.name);
    // A name has at most 253 characters, and ends in a letter or a digit.
    name.truncate(name.floor_char_boundary(253));
    scalar(name.trim_end_matches(['-', '.'])).into_owned()
}

/// The pod's lasting labels as a selector; nothing, which selects the namespace, where it has none.
pub(super) fn selector(pod: &Pod, member: &str) -> String {
    let mut out = String::new();
    for (key, value) in pod.labels.iter().filter(|(key, _)| is_lasting(key)) {
        if out.is_empty() {
            let _infallible = write!(out, "  {member}:\n    matchLabels:\n");
        }
        // Both are of a character set that needs no escape; the quotes keep `"true"` a string.
        let _infallible = writeln!(out, "      {key:?}: {value:?}");
    }
    out
}
