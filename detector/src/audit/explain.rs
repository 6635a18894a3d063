//! Owns the explanation of a pod: what holds for each port, who is expected, and what decided each.

use std::collections::BTreeMap;

use super::{Inventory, Member};
use crate::{
    flows::Timestamp,
    policy::{ObjectKey, PortMode, Ruling, Unbound, identity},
};

/// A pod, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The pod.
    pub member: Member,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// Fields of objects in its namespace and the root one that we do not know, and so ignore.
    pub unknown: Vec<(ObjectKey, String)>,
    /// Exceptions that are about it: the object, who answers for it, and whether it has ended.
    pub exceptions: Vec<(ObjectKey, String, bool)>,
}

/// A port, explained.
#[derive(Clone, Debug)]
pub struct PortView {
    /// The port.
    pub port: u16,
    /// What holds for it.
    pub mode: Option<PortMode>,
    /// STRICT of the whole mesh that does not bind the pod.
    pub unbound: Option<Unbound>,
    /// What is said of each caller that there is.
    pub callers: Vec<CallerView>,
    /// What is said of a caller without an identity.
    pub anonymous: Ruling,
}

/// A caller, judged.
#[derive(Clone, Debug)]
pub struct CallerView {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// What is said of it.
    pub ruling: Ruling,
}

/// Explains the pod called `name` in `namespace`, at `port` or at all its ports.
#[must_use]
pub fn explain(
    inventory: &Inventory,
    namespace: &str,
    name: &str,
    port: Option<u16>,
    now: Timestamp,
) -> Option<Explanation> {
    let named = |member: &&Member| *member.pod.name.namespace == *namespace && *member.pod.name.name == *name;
    let of_workload =
        |member: &&Member| *member.pod.name.namespace == *namespace && *member.pod.workload.name == *name;
    let members = inventory.members();
    let member = members.iter().find(named).or_else(|| members.iter().find(of_workload))?;
    let policy = inventory.policy();
    let mut callers: BTreeMap<(&str, &str), &Member> = BTreeMap::new();
    for caller in members {
        callers.entry((&caller.pod.name.namespace, &caller.pod.service_account)).or_insert(caller);
    }
    let ports: Vec<u16> = match port {
        Some(port) => vec![port],
        None => member.ports.iter().copied().collect(),
    };
    let nowhere = [0, 0, 0, 0].into();
    let ports = ports
        .into_iter()
        .map(|port| PortView {
            port,
            mode: policy.mode(&member.pod, port, None),
            unbound: policy.unbound(&member.pod, port),
            callers: callers
                .values()
                .map(|caller| CallerView {
                    namespace: caller.pod.name.namespace.to_string(),
                    service_account: caller.pod.service_account.to_string(),
                    ruling: policy.admits(
                        &member.pod,
                        port,
                        Some(identity(&caller.pod)),
                        caller.pod.addresses.iter().next().unwrap_or(nowhere),
                    ),
                })
                .collect(),
            anonymous: policy.admits(&member.pod, port, None, nowhere),
        })
        .collect();
    let root = &policy.mesh_config().root_namespace;
    let about =
        |key: &ObjectKey| key.name.namespace == member.pod.name.namespace || key.name.namespace == *root;
    let unknown = policy.objects().into_iter().filter(|object| about(&object.key())).flat_map(|object| {
        object.unknown_fields().iter().map(move |field| (object.key(), field.to_string()))
    });
    let exceptions = policy.objects().into_iter().filter_map(|object| match object {
        crate::policy::PolicyObject::TrafficException(exception)
            if exception.meta.name.namespace == member.pod.name.namespace
                && exception.selector.matches(&member.pod.labels) =>
        {
            Some((exception.key(), exception.owner.to_string(), exception.has_expired(now)))
        }
        _ => None,
    });
    Some(Explanation {
        ports,
        unknown: unknown.collect(),
        exceptions: exceptions.collect(),
        member: member.clone(),
    })
}
