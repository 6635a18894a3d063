//! Owns the remedies of posture findings.

use super::fix::{inject, is_linkerd, name, pod_selector, selector};
use crate::{
    cluster::objects::Pod,
    policy::{Decider, MeshKind, istio::DestinationRule},
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

/// How to have plaintext refused.
pub(crate) fn strict(pod: &Pod) -> String {
    format!(
        "# Refuse plaintext to this workload. First put its clients in the mesh, or they are cut off.\n\
         apiVersion: security.istio.io/v1\n\
         kind: PeerAuthentication\n\
         metadata:\n  namespace: {}\n  name: {}\n\
         spec:\n{}  mtls:\n    mode: STRICT\n",
        pod.name.namespace,
        name(pod, "strict"),
        selector(pod, "selector"),
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
            pod.name.namespace,
            name(pod, &port.to_string()),
            pod_selector(pod),
        ),
        None => format!(
            "# Then restart its workloads. First put their clients in the mesh, or they are cut off.\n\
             apiVersion: v1\n\
             kind: Namespace\n\
             metadata:\n  name: {}\n  annotations:\n    config.linkerd.io/default-inbound-policy: all-authenticated\n",
            pod.name.namespace
        ),
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
         spec:\n{2}  action: ALLOW\n  rules:\n  - from:\n    - source:\n        namespaces: [{0:?}]\n",
        pod.name.namespace,
        name(pod, "callers"),
        selector(pod, "selector"),
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
        pod.name.namespace,
        pod.workload.name
    )
}

/// How to have a rule's clients speak mTLS.
pub(crate) fn rule(rule: &DestinationRule) -> String {
    super::fix::istio_mutual(&rule.meta.name, &rule.full_host())
}
