//! Owns what is said of TLS: that is not the mesh's, that is weak, or that asks for somebody else.

use super::{Finding, FindingId, Severity, catalogue::describe, fix};
use crate::{
    flows::{End, Flow},
    policy::{Declared, PolicyView},
};

/// TLS where the mesh's is declared: it is encrypted, and proves nothing of who calls.
pub(super) fn not_mesh(flow: &Flow, policy: &PolicyView) -> Option<Finding> {
    let mode = policy.mode.as_ref()?;
    let inside = matches!(flow.client, End::Pod { .. } | End::Unknown { .. });
    let gateway = flow.server.pod().is_some_and(|pod| pod.proxy.intermediary);
    // Without a hello it may be the mesh's own: a connection from before the detector shows none.
    if mode.declared != Declared::Strict
        || mode.gap.is_some()
        || !inside
        || gateway
        || !flow.offered.has_hello()
    {
        return None;
    }
    Some(Finding {
        id: FindingId::TlsNotMesh,
        severity: Severity::Medium,
        flow: flow.clone(),
        why: format!(
            "{} speaks TLS of its own to {} on port {}, where the mesh's mTLS alone is declared, so its identity is not proven",
            describe(&flow.client),
            describe(&flow.server),
            flow.port
        ),
        fix: fix::rejoin(flow, policy),
        decided_by: Some(mode.decided_by.to_string()),
    })
}

/// TLS of a version that was given up (RFC 8996).
pub(super) fn weak(flow: &Flow) -> Option<Finding> {
    flow.offered.is_weak().then(|| Finding {
        id: FindingId::WeakTls,
        severity: Severity::Medium,
        flow: flow.clone(),
        why: format!(
            "{} offers {} on port {} no TLS above 1.1, which can be broken",
            describe(&flow.client),
            describe(&flow.server),
            flow.port
        ),
        fix: "# Have the client offer TLS 1.2 or 1.3: as a rule a library or a setting that is years old.\n"
            .to_owned(),
        decided_by: None,
    })
}

/// A server name of Linkerd's is the identity that the client's proxy asks for. Of a service's pods it is not
/// known which one served, and a gateway answers for others.
pub(super) fn mismatch(flow: &Flow) -> Option<Finding> {
    let End::Pod { pod, .. } = &flow.server else { return None };
    if pod.proxy.intermediary {
        return None;
    }
    let names = flow.tls.server_names.iter().filter_map(|name| linkerd_identity(name));
    let (account, namespace) = names.into_iter().find(|(account, namespace)| {
        *account != &*pod.service_account || *namespace != &*pod.name.namespace
    })?;
    Some(Finding {
        id: FindingId::IdentityMismatch,
        severity: Severity::Medium,
        flow: flow.clone(),
        why: format!(
            "{} asks for service account {namespace}/{account} on port {} and reaches {}",
            describe(&flow.client),
            flow.port,
            describe(&flow.server),
        ),
        fix: fix::right_identity(pod),
        decided_by: None,
    })
}

/// Service account and namespace of `<account>.<namespace>.serviceaccount.identity.<control plane>.<domain>`.
fn linkerd_identity(name: &str) -> Option<(&str, &str)> {
    let (who, _control_plane) = name.split_once(".serviceaccount.identity.")?;
    who.rsplit_once('.').filter(|(account, namespace)| !account.is_empty() && !namespace.is_empty())
}
