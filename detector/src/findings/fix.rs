//! Owns the remedies: manifests that apply as they stand, with comments that say what they do.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    cluster::objects::{ExpectedSources, Name, Pod},
    flows::{End, Flow},
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

/// How to have plaintext to the server refused.
pub(super) fn encrypt(flow: &Flow) -> String {
    let Some(pod) = flow.server.pod() else {
        return match &flow.server {
            End::External { address } => format!(
                "# {address} is outside the cluster: have the client use https, or an egress gateway that originates TLS.\n"
            ),
            _ => "# Serve this port with TLS, and have its clients use https.\n".to_owned(),
        };
    };
    format!(
        "# With Istio: refuse plaintext to this workload. First put its clients in the mesh, or they are cut off.\n\
         # Without a mesh: serve the port with TLS, and have its clients use https.\n\
         apiVersion: security.istio.io/v1\n\
         kind: PeerAuthentication\n\
         metadata:\n  namespace: {}\n  name: {}\n\
         spec:\n{}  mtls:\n    mode: STRICT\n",
        pod.name.namespace,
        name(pod, "strict"),
        selector(pod, "selector"),
    )
}

/// How to declare the caller, and what to do if it should not call.
pub(super) fn expect(flow: &Flow, by: &ExpectedSources) -> String {
    match &flow.client {
        End::Pod { pod, .. } => {
            let caller =
                Name { namespace: Arc::clone(&pod.name.namespace), name: Arc::clone(&pod.service_account) };
            format!(
                "# If this caller is right, declare it. If it is not, stop {} {}/{} and revoke what it could reach.\n{}",
                pod.workload.kind.as_str(),
                pod.name.namespace,
                pod.workload.name,
                by.manifest_with(&caller),
            )
        }
        _ => known_sources_only(flow),
    }
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
         metadata:\n  name: {namespace}\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n",
        sender.workload.name,
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
        pod.name.namespace,
        name(pod, "pods-only"),
        match selector(pod, "podSelector") {
            // Unlike the others, this member must be there.
            none if none.is_empty() => "  podSelector: {}\n".to_owned(),
            some => some,
        },
    )
}

fn name(pod: &Pod, what: &str) -> String {
    // A name ends at 253 characters.
    let workload: String = pod.workload.name.chars().take(240).collect();
    format!("{workload}-{what}")
}

/// The pod's lasting labels as a selector; nothing, which selects the namespace, where it has none.
fn selector(pod: &Pod, member: &str) -> String {
    let mut out = String::new();
    for (key, value) in pod.labels.iter().filter(|(key, _)| !PASSING_LABELS.contains(key)) {
        if out.is_empty() {
            let _infallible = write!(out, "  {member}:\n    matchLabels:\n");
        }
        // Both are of a character set that needs no escape; the quotes keep `"true"` a string.
        let _infallible = writeln!(out, "      {key:?}: {value:?}");
    }
    out
}
