//! Owns the next step of a migration: PERMISSIVE, then STRICT with ports that are excepted, then STRICT.
//!
//! Among several `PeerAuthentications` that select a pod the oldest counts and the others are nothing, so a
//! step is a new state of the one that counts, where there is one.

use super::{Answer, Break};
use crate::{
    audit::{Inventory, Member},
    cluster::scalar,
    findings::posture as fix,
    policy::{Declared, MeshKind, istio::Mode},
    printable::printed,
};

pub(super) fn step(inventory: &Inventory, member: &Member, answer: Answer, breaks: &[Break]) -> String {
    let pod = &member.pod;
    let policy = inventory.policy();
    let linkerd = pod.proxy.mesh() == Some(MeshKind::Linkerd);
    let own = policy.peer_authentication(pod);
    let own = own.as_deref();
    match answer {
        Answer::Done => "# Nothing: it is STRICT.\n".to_owned(),
        Answer::NoProxy => fix::mesh(pod, member.intended),
        Answer::Ready if linkerd => fix::authenticated(pod, None),
        Answer::Ready => {
            fix::peer_authentication(pod, own, "Refuse plaintext to this workload.", Mode::Strict, &[])
        }
        Answer::NotYet | Answer::NotObserved => {
            "# Wait, and ask again: nothing that was seen speaks against STRICT.\n".to_owned()
        }
        Answer::Blocked => blocked(inventory, member, breaks, linkerd),
    }
}

fn blocked(inventory: &Inventory, member: &Member, breaks: &[Break], linkerd: bool) -> String {
    let Member { pod, ports, .. } = member;
    let policy = inventory.policy();
    let mode = policy.mode(pod, 0, None).map(|mode| mode.declared);
    let mut text = String::new();
    let mut told = Vec::new();
    for broken in breaks {
        let line = format!("# {}: {}.\n", printed(&broken.client), printed(&broken.advice));
        if !told.contains(&line) {
            text.push_str(&line);
            told.push(line);
        }
    }
    if linkerd {
        return text;
    }
    let own = policy.peer_authentication(pod);
    let own = own.as_deref();
    if mode == Some(Declared::Disabled) {
        return text + &fix::peer_authentication(pod, own, "Take both, until then.", Mode::Permissive, &[]);
    }
    let blocking: Option<Vec<u16>> = breaks.iter().map(|broken| broken.port).collect();
    let Some(mut blocking) = blocking else { return text };
    blocking.sort_unstable();
    blocking.dedup();
    // Where another port of it is free, that much can be had now.
    if !ports.iter().any(|port| !blocking.contains(port)) {
        return text;
    }
    let excepted: Vec<(u16, Mode)> = blocking.into_iter().map(|port| (port, Mode::Permissive)).collect();
    let head = "Until then: refuse plaintext at all ports but those that it is still spoken at.";
    text + &fix::peer_authentication(pod, own, head, Mode::Strict, &excepted)
}

/// How to make a namespace STRICT whose workloads all may.
pub(super) fn namespace(inventory: &Inventory, namespace: &str, linkerd: bool) -> String {
    if linkerd {
        return fix::authenticated_namespace(namespace);
    }
    let known = inventory.policy().namespace_peer_authentication(namespace);
    let name = scalar(known.map_or("default", |object| &*object.meta.name.name));
    let namespace = scalar(namespace);
    format!(
        "# Refuse plaintext in the whole namespace. Workloads with a PeerAuthentication of their own keep it.\n\
         apiVersion: security.istio.io/v1\n\
         kind: PeerAuthentication\n\
         metadata:\n  namespace: {namespace}\n  name: {name}\n\
         spec:\n  mtls:\n    mode: STRICT\n"
    )
}
