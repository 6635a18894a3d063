//! Owns the remedies of posture findings.

use std::collections::BTreeMap;

use super::fix::{inject, is_linkerd, name, pod_selector, selector};
use crate::{
    cluster::{objects::Pod, scalar},
    policy::{
        Decider, MeshKind,
        istio::{DestinationRule, Mode, PeerAuthentication},
    },
};

pub(crate) use super::fix::ended;

/// A remedy that is a change of an object that is there.
pub(crate) fn comment(by: &Decider, what: &str) -> String {
    format!("# {by}:\n# {what}.\n")
}

/// How to put a workload in the mesh.
pub(crate) fn mesh(pod: &Pod, intended: Option<MeshKind>) -> String {
    let workload = format!("{} {}/{}", pod.workload.kind.as_str(), pod.name.namespace, pod.workload.name);
    match intended {
        Some(_) => format!(
            "# Injection happens when a pod is made:\n# kubectl -n {} rollout restart {} {}\n",
            pod.name.namespace,
            pod.workload.kind.as_str().to_lowercase(),
            pod.workload.name
        ),
        None => inject(pod, &format!("Put {workload} in the mesh.")),
    }
}

/// How to have plaintext refused; ports that are excepted stay so.
pub(crate) fn strict(pod: &Pod, own: Option<&PeerAuthentication>) -> String {
    let ports: Vec<(u16, Mode)> =
        own.into_iter().flat_map(|own| &own.ports).map(|(port, mode)| (*port, *mode)).collect();
    let head = "Refuse plaintext to this workload. First put its clients in the mesh, or they are cut off.";
    peer_authentication(pod, own, head, Mode::Strict, &ports)
}

/// A `PeerAuthentication` for a workload: a new state of the one that counts for it, where there is one, for a
/// younger one beside it would count for nothing. What that declares for ports stays, but where it is looser
/// than `mode` and `ports` does not name it.
pub(crate) fn peer_authentication(
    pod: &Pod,
    own: Option<&PeerAuthentication>,
    head: &str,
    mode: Mode,
    ports: &[(u16, Mode)],
) -> String {
    let (name, selector) = match own.and_then(|own| Some((own, own.selector.as_ref()?))) {
        Some((own, selector)) => (scalar(&own.meta.name.name).into_owned(), selector.yaml(2)),
        None => (name(pod, "strict"), selector(pod, "selector")),
    };
    let mut levels: BTreeMap<u16, Mode> = ports.iter().copied().collect();
    // With other ports excepted this is a step on the way, and what was declared is not undone by it.
    if !ports.is_empty() || mode != Mode::Strict {
        for (port, declared) in own.into_iter().flat_map(|own| &own.ports) {
            levels.entry(*port).or_insert(*declared);
        }
    }
    let mut text = format!(
        "# {head}\n\
         apiVersion: security.istio.io/v1\n\
         kind: PeerAuthentication\n\
         metadata:\n  namespace: {}\n  name: {name}\n\
         spec:\n{selector}  mtls:\n    mode: {}\n",
        scalar(&pod.name.namespace),
        mode.as_str(),
    );
    if !levels.is_empty() {
        text.push_str("  portLevelMtls:\n");
    }
    for (port, mode) in levels {
        text.push_str(&format!("    {port}:\n      mode: {}\n", mode.as_str()));
    }
    text
}

/// How to have Linkerd ask for an identity in a whole namespace.
pub(crate) fn authenticated_namespace(namespace: &str) -> String {
    format!(
        "# Then restart its workloads. First put their clients in the mesh, or they are cut off.\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  name: {}\n  annotations:\n    config.linkerd.io/default-inbound-policy: all-authenticated\n",
        scalar(namespace),
    )
}

/// How to have Linkerd ask for an identity.
pub(crate) fn authenticated(pod: &Pod, port: Option<u16>) -> String {
    match port {
        Some(port) => format!(
            "# Admit peers of the mesh alone. First put its clients in the mesh, or they are cut off.\n\
             apiVersion: policy.linkerd.io/v1beta3\n\
             kind: Server\n\
             metadata:\n  namespace: {}\n  name: {}\n\
             spec:\n{}  port: {port}\n  accessPolicy: all-authenticated\n",
            scalar(&pod.name.namespace),
            name(pod, &port.to_string()),
            pod_selector(pod),
        ),
        None => authenticated_namespace(&pod.name.namespace),
    }
}

/// How to say who may call.
pub(crate) fn authorize(pod: &Pod) -> String {
    if is_linkerd(pod) {
        return "# Make a Server for its port with accessPolicy deny, and an AuthorizationPolicy that names the callers.\n"
            .to_owned();
    }
    format!(
        "# Admits callers of its own namespace. Narrow it down: a service account each.\n\
         apiVersion: security.istio.io/v1\n\
         kind: AuthorizationPolicy\n\
         metadata:\n  namespace: {0}\n  name: {1}\n\
         spec:\n{2}  action: ALLOW\n  rules:\n  - from:\n    - source:\n        namespaces: [{3:?}]\n",
        scalar(&pod.name.namespace),
        name(pod, "callers"),
        selector(pod, "selector"),
        pod.name.namespace,
    )
}

/// How to give a workload an identity of its own.
pub(crate) fn account(pod: &Pod) -> String {
    format!(
        "# Then set spec.serviceAccountName in the template of {} {} to it.\n\
         apiVersion: v1\n\
         kind: ServiceAccount\n\
         metadata:\n  namespace: {}\n  name: {}\n",
        pod.workload.kind.as_str(),
        pod.workload.name,
        scalar(&pod.name.namespace),
        scalar(&pod.workload.name),
    )
}

/// How to have a rule's clients speak mTLS.
pub(crate) fn rule(rule: &DestinationRule) -> String {
    super::fix::istio_mutual(&rule.meta.name, &rule.full_host())
}
