//! Owns what should have been: whether a port takes plaintext, which sources a server expects, what a
//! client sends, and which exceptions are declared.
//!
//! Pure: objects in, a decision out, with the object and field that made it. Meshes' objects are in
//! [`istio`] and [`linkerd`], our own in [`own`]; [`PolicySet`] holds all and answers. A caller is judged by
//! the identity that its pod could prove: whether it did is a question of the mode, not of the source.

pub mod decision;
mod effective;
pub mod index;
pub mod istio;
pub mod linkerd;
pub mod matching;
pub mod own;
pub mod pod;
mod set;

pub use self::{
    decision::{Answer, Decider, Kind, ObjectKey, Ruling},
    effective::{
        ClientTls, Declared, Dialled, PortMode, Sends, Unbound, identity, is_proxy_port, is_tunnel_port,
    },
    pod::{MeshKind, PodMesh, PodParts},
    set::{PolicyObject, PolicySet},
};

use std::{net::IpAddr, sync::Arc};

use detector_ebpf::verdict::Verdict;

use self::own::TrafficException;
use crate::{
    cluster::{
        Holder, Store,
        objects::{ExpectedSources, Pod, Service, TargetPort},
    },
    flows::{End, Flow, Timestamp},
};

/// What policy says of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    /// Whether the client is expected.
    pub source: Ruling,
    /// The declaration of ours that decided it, where one did.
    pub sources: Option<Arc<ExpectedSources>>,
    /// What holds for the server's port.
    pub mode: Option<PortMode>,
    /// STRICT of the whole mesh that does not bind the server.
    pub unbound: Option<Unbound>,
    /// The `PeerAuthentication` with a selector that counts for the server, where there is one.
    pub workload_policy: Option<Arc<istio::PeerAuthentication>>,
    /// What the client is expected to send.
    pub client: Option<ClientTls>,
    /// The host of the `DestinationRule` that decided what the client sends, where one did.
    pub rule_host: Option<Box<str>>,
    /// The server of Linkerd that the port has.
    pub server: Option<Arc<str>>,
    /// Whether a mesh's tunnel hides the real port, so that `source` is about all of the server's.
    pub tunnelled: bool,
    /// The exceptions that are about the flow, oldest first.
    pub exceptions: Vec<Exception>,
    /// Whether identities are known at all: if not, an unknown client means nothing.
    pub identities: bool,
}

/// An exception that is about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The object.
    pub object: TrafficException,
    /// Whether it had ended when the flow was last seen.
    pub expired: bool,
}

impl Default for PolicyView {
    fn default() -> Self {
        Self {
            source: Ruling::new(Answer::NoPolicy, Decider::Default("nothing says who may call it")),
            sources: None,
            mode: None,
            unbound: None,
            workload_policy: None,
            client: None,
            rule_host: None,
            server: None,
            tunnelled: false,
            exceptions: Vec::new(),
            identities: true,
        }
    }
}

impl PolicyView {
    /// What the policy in `store` says of `flow`.
    #[must_use]
    pub fn of(store: &Store, flow: &Flow) -> Self {
        let identities = !store.is_blind();
        let Some(server) = flow.server.pod() else { return Self { identities, ..Self::default() } };
        let service = match &flow.server {
            End::Service { service, .. } => Some(Arc::clone(service)),
            other => match store.lookup(other.address()) {
                Some(Holder::Service(service)) => Some(service),
                _ => None,
            },
        };
        // A service's port is not its pods': policy is about the pods'.
        let port = match (&flow.server, &service) {
            (End::Service { .. }, Some(service)) => target(service, flow.port, server).unwrap_or(flow.port),
            _ => flow.port,
        };
        let guessed = match (&service, &flow.client) {
            (None, End::Pod { pod, .. }) if pod.proxy.mesh() == Some(MeshKind::Istio) => {
                store.service_before(server, port)
            }
            _ => None,
        };
        let dialled = match (service.as_deref(), &guessed) {
            (Some(service), _) => {
                let port = match &flow.server {
                    End::Service { .. } => Some(flow.port),
                    _ => dialled_port(service, flow.port, server),
                };
                port.map(|port| Dialled { service: &service.name, port, guessed: false })
            }
            (None, Some((service, port))) => {
                Some(Dialled { service: &service.name, port: *port, guessed: true })
            }
            (None, None) => None,
        };
        let address = flow.client.address();
        let client = match &flow.client {
            End::Pod { pod, .. } => Some(&**pod),
            _ => None,
        };
        let set = store.policy();
        let to = (server, flow.server.address());
        let view = Self::of_edge(set, (client, address), to, port, dialled, flow.last_seen);
        let tunnelled = flow.verdict == Verdict::MeshMtls
            && match server.proxy.mesh() {
                Some(mesh) => is_tunnel_port(mesh, port),
                // A waypoint is a proxy itself, and takes HBONE.
                None => server.proxy.intermediary && is_tunnel_port(MeshKind::Ambient, port),
            };
        if !tunnelled {
            return Self { identities, ..view };
        }
        let caller = client.map(identity);
        let source = through(client, set.admits_somewhere(server, caller, address));
        Self {
            identities,
            tunnelled,
            sources: sources(set, &source),
            exceptions: exceptions(set, server, None, caller, address, flow.last_seen),
            source,
            ..view
        }
    }

    /// What the policy in `set` says of connections from a client, its pod where it is one and its address, to
    /// `port` of a server's pod, at the address that was dialled.
    #[must_use]
    pub fn of_edge(
        set: &PolicySet,
        (client, address): (Option<&Pod>, IpAddr),
        (server, to): (&Pod, IpAddr),
        port: u16,
        dialled: Option<Dialled<'_>>,
        now: Timestamp,
    ) -> Self {
        let caller = client.map(identity);
        let source = through(client, set.admits(server, port, caller, address));
        let told = client.map(|client| set.client_tls(client, server, port, to, dialled));
        Self {
            sources: sources(set, &source),
            source,
            mode: set.mode(server, port, Some(address)),
            unbound: set.unbound(server, port),
            workload_policy: set.peer_authentication(server),
            server: set.server(server, port).map(|server| Arc::clone(&server.meta.name.name)),
            rule_host: told.as_ref().and_then(|told| match set.object(told.decided_by.object()?)? {
                PolicyObject::DestinationRule(rule) => Some(rule.full_host().into()),
                _ => None,
            }),
            client: told,
            tunnelled: false,
            exceptions: exceptions(set, server, Some(port), caller, address, now),
            identities: true,
        }
    }

    /// The exception that stands for a finding.
    #[must_use]
    pub fn exception(&self, id: &str) -> Option<&TrafficException> {
        let standing = self.exceptions.iter().filter(|exception| !exception.expired);
        standing.map(|exception| &exception.object).find(|object| object.is_about(id))
    }

    /// The exception that stood for a finding and has ended, where no other stands.
    #[must_use]
    pub fn expired(&self, id: &str) -> Option<&TrafficException> {
        if self.exception(id).is_some() {
            return None;
        }
        self.exceptions.iter().map(|exception| &exception.object).find(|object| object.is_about(id))
    }
}

/// A gateway or a waypoint passes on what others send: that one of our declarations does not name it says
/// nothing of who called. A mesh judges it as the caller that it is.
fn through(client: Option<&Pod>, ruling: Ruling) -> Ruling {
    let passes_on = client.is_some_and(|client| client.proxy.intermediary);
    if passes_on && ruling.answer == Answer::Denied && ruling.decided_by.is(Kind::ExpectedSources) {
        let because = Some("the client passes on what others send".into());
        return Ruling { answer: Answer::Unknown, because, ..ruling };
    }
    ruling
}

/// The declaration of ours that made a ruling, where one did.
fn sources(set: &PolicySet, ruling: &Ruling) -> Option<Arc<ExpectedSources>> {
    let key = ruling.decided_by.object().filter(|object| object.kind == Kind::ExpectedSources)?;
    match set.object(key)? {
        PolicyObject::ExpectedSources(object) => Some(Arc::new(object.clone())),
        _ => None,
    }
}

/// The exceptions that are about an edge at `now`.
fn exceptions(
    set: &PolicySet,
    server: &Pod,
    port: Option<u16>,
    caller: Option<istio::Identity<'_>>,
    address: IpAddr,
    now: Timestamp,
) -> Vec<Exception> {
    let found = set.exceptions(server, port, caller, address).into_iter();
    found.map(|object| Exception { expired: object.has_expired(now), object: object.clone() }).collect()
}

/// The port of a pod behind `port` of a service.
fn target(service: &Service, port: u16, pod: &Pod) -> Option<u16> {
    let found = service.ports.iter().find(|candidate| candidate.port == port)?;
    target_number(&found.target, pod)
}

/// The number of a port of a pod.
pub(crate) fn target_number(target: &TargetPort, pod: &Pod) -> Option<u16> {
    match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            pod.named_ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
        }
    }
}

/// The port of a service that leads to `port` of a pod.
pub(crate) fn dialled_port(service: &Service, port: u16, pod: &Pod) -> Option<u16> {
    let found = service.ports.iter().find(|candidate| target_number(&candidate.target, pod) == Some(port))?;
    Some(found.port)
}

#[cfg(test)]
mod tests;
