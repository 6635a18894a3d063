//! Owns the answers: what holds for a port of a workload, whoever's objects say it.

use std::{fmt, net::IpAddr, sync::Arc};

use super::{
    decision::{Answer, Decider, Kind, ObjectKey, Ruling},
    istio::{self, Identity, Layer7, Mode, TlsMode, authorization, peer_authentication},
    linkerd::{self, Access},
    own::TrafficException,
    pod::{ISTIO_PORTS, LINKERD_PORTS, MeshKind},
    set::PolicySet,
};
use crate::cluster::objects::{ExpectedSources, Name, Pod};

/// What is declared for a port.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum Declared {
    /// mTLS alone.
    Strict,
    /// mTLS and plaintext.
    Permissive,
    /// Plaintext.
    Disabled,
}

impl Declared {
    /// Its name in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Permissive => "permissive",
            Self::Disabled => "disabled",
        }
    }
}

/// What holds for a port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMode {
    /// The mesh that the pod is in.
    pub mesh: Option<MeshKind>,
    /// What is declared.
    pub declared: Declared,
    /// What decided it.
    pub decided_by: Decider,
    /// Whether it is declared for this port alone, against what holds for its workload.
    pub by_port: bool,
    /// Why no proxy enforces it, where none does.
    pub gap: Option<Decider>,
    /// The deadline of PERMISSIVE that is declared, in seconds since 1970.
    pub permissive_until: Option<i64>,
}

/// STRICT that is declared for the whole mesh, of a pod that it does not bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    /// What declares it.
    pub decided_by: Decider,
    /// What keeps the pod outside of the mesh.
    pub because: Decider,
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decided_by, because } = self;
        write!(
            f,
            "STRICT is declared for the whole mesh by {decided_by}, and does not bind this pod, which is outside of it: {because}"
        )
    }
}

/// What a client is expected to send.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Sends {
    /// Mesh mTLS.
    MeshMtls,
    /// TLS that is not the mesh's.
    Tls,
    /// Plaintext.
    Plaintext,
}

/// What a client is expected to send, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// What it sends.
    pub sends: Sends,
    /// What decided it.
    pub decided_by: Decider,
    /// Why it may be otherwise, where it may.
    pub doubt: Option<&'static str>,
}

/// A service as a client dials it.
#[derive(Clone, Copy, Debug)]
pub struct Dialled<'a> {
    /// The service.
    pub service: &'a Name,
    /// Its port.
    pub port: u16,
    /// The wire shows the pod's address, and this service leads there: a sidecar picks the pod by itself,
    /// so either may have been dialled.
    pub guessed: bool,
}

/// The identity of a pod.
#[must_use]
pub fn identity(pod: &Pod) -> Identity<'_> {
    Identity { namespace: &pod.name.namespace, service_account: &pod.service_account }
}

/// Whether all that is meshed comes by this port, with the real one inside of the encryption: HBONE's (Istio's
/// pilot/pkg/model/listener.go, `HBoneInboundListenPort`), and that of Linkerd's proxy (values.yaml,
/// `proxy.ports.inbound`).
#[must_use]
pub fn is_tunnel_port(mesh: MeshKind, port: u16) -> bool {
    match mesh {
        // A sidecar takes HBONE too, from ztunnels and waypoints.
        MeshKind::Istio | MeshKind::Ambient => port == 15_008,
        MeshKind::Linkerd => port == 4143,
    }
}

/// Whether a port belongs to the mesh's proxy itself: health, metrics, probes.
#[must_use]
pub fn is_proxy_port(mesh: MeshKind, port: u16) -> bool {
    match mesh {
        MeshKind::Istio => ISTIO_PORTS.contains(&port),
        MeshKind::Ambient => port == 15021,
        MeshKind::Linkerd => LINKERD_PORTS.contains(&port),
    }
}

impl PolicySet {
    /// What holds for `port` of a pod; `None` where no mesh and no object has a word on it. `client` narrows
    /// what depends on the client's address.
    ///
    /// What is declared for the whole mesh is not about a pod outside of it ([`Self::unbound`]): only what its own
    /// namespace declares is, and is not enforced. Istio itself enforces neither: a mode is part of what a
    /// sidecar or ztunnel is sent (pilot/pkg/networking/core/listener_inbound.go, `ForPort`;
    /// pilot/pkg/serviceregistry/ambient/authorization.go). That the namespace's own word counts is ours: whoever
    /// wrote it meant these pods, while a word on the mesh leaves out what was never put in.
    ///
    /// A gateway or waypoint without an application has no mode. Istio builds the listeners of its `router` from
    /// `Gateway` servers and their `tls` alone (pilot/pkg/networking/core/listener.go, `BuildListeners`; gateway.go,
    /// `buildGatewayListenerTLSContext`), and those of a waypoint from HBONE, which is always mTLS
    /// (listener_waypoint.go); the reference of `PeerAuthentication` speaks of sidecars and ambient pods alone.
    #[must_use]
    pub fn mode(&self, pod: &Pod, port: u16, client: Option<IpAddr>) -> Option<PortMode> {
        match pod.proxy.mesh() {
            _ if pod.proxy.router => None,
            Some(MeshKind::Linkerd) => Some(self.linkerd_mode(pod, port, client)),
            Some(mesh) => Some(self.istio_mode(pod, port, Some(mesh))),
            None => {
                // Declared for a pod that no proxy stands before.
                let index = self.index();
                let mode = self.istio_mode(pod, port, None);
                if mode.decided_by.object().is_some_and(|object| !self.is_of_the_mesh(object)) {
                    return Some(mode);
                }
                let server = index.server(&pod.name.namespace, &pod.labels, port, &pod.named_ports);
                server.map(|_| self.linkerd_mode(pod, port, client))
            }
        }
    }

    /// STRICT of the whole mesh that holds for the pods around this one and not for it, since it is in no mesh.
    #[must_use]
    pub fn unbound(&self, pod: &Pod, port: u16) -> Option<Unbound> {
        if pod.proxy.router || pod.proxy.mesh().is_some() {
            return None;
        }
        let PortMode { declared, decided_by, gap, .. } = self.istio_mode(pod, port, None);
        let of_the_mesh = decided_by.object().is_some_and(|object| self.is_of_the_mesh(object));
        (declared == Declared::Strict && of_the_mesh).then_some(Unbound { decided_by, because: gap? })
    }

    /// Whether an object of Istio's is for the whole mesh, by its namespace (`meshConfig.rootNamespace`).
    fn is_of_the_mesh(&self, object: &ObjectKey) -> bool {
        object.name.namespace == self.index().mesh.root_namespace
    }

    /// The `PeerAuthentication` with a selector that counts for a pod: the oldest that selects it.
    #[must_use]
    pub fn peer_authentication(&self, pod: &Pod) -> Option<Arc<istio::PeerAuthentication>> {
        let index = self.index();
        let namespace = &*pod.name.namespace;
        // A selector in the root namespace counts for nothing.
        if namespace == &*index.mesh.root_namespace {
            return None;
        }
        let selecting = index.peer_authentications.matching(namespace, &pod.labels);
        selecting.into_iter().find(|object| object.selector.is_some()).map(Arc::clone)
    }

    /// The `PeerAuthentication` that counts for a namespace: the oldest without a selector.
    #[must_use]
    pub fn namespace_peer_authentication(&self, namespace: &str) -> Option<&istio::PeerAuthentication> {
        let selected = self.index().peer_authentications.in_namespace(namespace)?;
        selected.all().iter().map(|object| &**object).find(|object| object.selector.is_none())
    }

    /// Linkerd's server for `port` of a pod.
    #[must_use]
    pub fn server(&self, pod: &Pod, port: u16) -> Option<&linkerd::Server> {
        self.index().server(&pod.name.namespace, &pod.labels, port, &pod.named_ports)
    }

    fn istio_mode(&self, pod: &Pod, port: u16, mesh: Option<MeshKind>) -> PortMode {
        let index = self.index();
        let composed = peer_authentication::of_workload(
            &index.peer_authentications,
            &index.mesh,
            &pod.name.namespace,
            &pod.labels,
            Some(port),
        );
        let declared = match composed.mode {
            Mode::Strict => Declared::Strict,
            // ztunnel takes both, whichever of the two is said: istiod sends it a denial for STRICT and nothing for
            // the others (pilot/pkg/serviceregistry/ambient/authorization.go, `convertedSelectorPeerAuthentications`).
            Mode::Disable if mesh == Some(MeshKind::Ambient) && !composed.by_port => Declared::Permissive,
            Mode::Disable => Declared::Disabled,
            Mode::Permissive | Mode::Unset => Declared::Permissive,
        };
        PortMode {
            mesh,
            declared,
            decided_by: composed.decided_by,
            by_port: composed.by_port,
            gap: gap(pod, port, mesh),
            permissive_until: composed.permissive_until,
        }
    }

    fn linkerd_mode(&self, pod: &Pod, port: u16, client: Option<IpAddr>) -> PortMode {
        let index = self.index();
        let mesh = pod.proxy.mesh();
        let mut gap = gap(pod, port, mesh);
        if gap.is_none() && index.linkerd.ignore_inbound.contains(port) {
            gap = Some(Decider::Default("Linkerd's values, proxyInit.ignoreInboundPorts"));
        }
        let mode = |declared, decided_by, by_port| PortMode {
            mesh,
            declared,
            decided_by,
            by_port,
            gap: gap.clone(),
            permissive_until: None,
        };
        if let Some(server) = index.server(&pod.name.namespace, &pod.labels, port, &pod.named_ports) {
            let speaking = index.speaking(server);
            return match speaking.plaintext(client, &index.linkerd, index) {
                Some(by) => mode(Declared::Permissive, by, true),
                None => mode(Declared::Strict, server.key().field("spec.accessPolicy"), true),
            };
        }
        let (access, decided_by) = self.linkerd_default(pod, port);
        let declared = if access.takes_plaintext() { Declared::Permissive } else { Declared::Strict };
        mode(declared, decided_by, false)
    }

    /// Linkerd's policy for a port without a server: `default_inbound_server` of its
    /// policy-controller/k8s/index/src/inbound/index.rs.
    fn linkerd_default(&self, pod: &Pod, port: u16) -> (Access, Decider) {
        let membership = pod.proxy.membership.as_ref();
        let field = "metadata.annotations[config.linkerd.io/default-inbound-policy]";
        let own = membership.and_then(|membership| Access::read(membership.default_policy.as_deref()?));
        let (access, by) = match own {
            Some(access) => (access, Decider::pod(&pod.name, field)),
            None => (
                self.index().linkerd.default_policy,
                Decider::Default("Linkerd's values, proxy.defaultInboundPolicy"),
            ),
        };
        let forced = membership.is_some_and(|membership| membership.require_identity.contains(port));
        match access {
            // The annotation narrows what allows; `audit` is another kind of policy, which it leaves as it is
            // (policy-controller/k8s/index/src/inbound/index.rs, `default_inbound_server`).
            Access::AllUnauthenticated if forced => (
                Access::AllAuthenticated,
                Decider::pod(
                    &pod.name,
                    "metadata.annotations[config.linkerd.io/proxy-require-identity-inbound-ports]",
                ),
            ),
            Access::ClusterUnauthenticated if forced => (
                Access::ClusterAuthenticated,
                Decider::pod(
                    &pod.name,
                    "metadata.annotations[config.linkerd.io/proxy-require-identity-inbound-ports]",
                ),
            ),
            access => (access, by),
        }
    }

    /// Whether declared policy admits a caller with this identity. The identity is what its pod could
    /// prove; whether it did is a question of the mode.
    #[must_use]
    pub fn admits(&self, server: &Pod, port: u16, caller: Option<Identity<'_>>, address: IpAddr) -> Ruling {
        let declared = match server.proxy.mesh() {
            Some(MeshKind::Linkerd) => self.linkerd_admits(server, port, caller, address),
            Some(mesh) => self.istio_admits(server, Some(port), caller, address, Some(mesh)),
            None => match self.istio_admits(server, Some(port), caller, address, None) {
                Ruling { answer: Answer::NoPolicy, .. } => {
                    let index = self.index();
                    let of = index.server(&server.name.namespace, &server.labels, port, &server.named_ports);
                    match of {
                        Some(_) => self.linkerd_admits(server, port, caller, address),
                        None => {
                            Ruling::new(Answer::NoPolicy, Decider::Default("nothing says who may call it"))
                        }
                    }
                }
                ruling => ruling,
            },
        };
        self.with_ours(server, caller, declared)
    }

    /// [`Self::admits`] for a connection in a mesh's tunnel, which hides the port: whether the caller is
    /// admitted at any port of the server.
    #[must_use]
    pub fn admits_somewhere(&self, server: &Pod, caller: Option<Identity<'_>>, address: IpAddr) -> Ruling {
        let mesh = server.proxy.mesh();
        let declared = if mesh == Some(MeshKind::Linkerd) {
            self.linkerd_admits_somewhere(server, caller, address)
        } else {
            self.istio_admits(server, None, caller, address, mesh)
        };
        self.with_ours(server, caller, declared)
    }

    /// Two declarations must both admit; where one has nothing to say the other decides.
    fn with_ours(&self, server: &Pod, caller: Option<Identity<'_>>, declared: Ruling) -> Ruling {
        match (self.expected(server, caller), declared) {
            (None, declared) => declared,
            (Some(ours), declared) if ours.answer == Answer::Denied => {
                if declared.answer == Answer::Denied {
                    declared
                } else {
                    ours
                }
            }
            (Some(ours), declared) => match declared.answer {
                Answer::Denied | Answer::Unknown => declared,
                Answer::Allowed | Answer::NoPolicy => ours,
            },
        }
    }

    fn istio_admits(
        &self,
        server: &Pod,
        port: Option<u16>,
        caller: Option<Identity<'_>>,
        address: IpAddr,
        mesh: Option<MeshKind>,
    ) -> Ruling {
        let index = self.index();
        if server.proxy.router && index.has_targeted(&server.name.namespace, &server.labels) {
            let because = Some("policies with targetRefs may bind it".into());
            let by = Decider::Default("an Istio gateway or waypoint");
            return Ruling { because, ..Ruling::new(Answer::Unknown, by) };
        }
        // A waypoint ignores selectors: pilot/pkg/model/policyattachment.go, `ShouldAttachPolicy`, by which a gateway
        // of the Gateway API heeds them where it has no targetRefs.
        if server.proxy.waypoint {
            return Ruling::new(Answer::NoPolicy, Decider::Default("no policy with targetRefs is there"));
        }
        let mut policies = index.istio_policies(&server.name.namespace, &server.labels);
        if mesh.is_none() && !server.proxy.router {
            // As for the mode: the mesh's own policies are not about a pod outside of it.
            policies.retain(|policy| policy.meta.name.namespace != index.mesh.root_namespace);
        }
        let waypoint = server.proxy.membership.as_ref().is_some_and(|membership| membership.waypoint);
        let layer7 =
            if mesh == Some(MeshKind::Ambient) && !waypoint { Layer7::Absent } else { Layer7::Unseen };
        let caller = istio::Caller { identity: caller, address, port };
        authorization::rule(&policies, &caller, &index.mesh, layer7)
    }

    fn linkerd_admits(
        &self,
        server: &Pod,
        port: u16,
        caller: Option<Identity<'_>>,
        address: IpAddr,
    ) -> Ruling {
        let index = self.index();
        let membership = server.proxy.membership.as_ref();
        let control_plane =
            membership.and_then(|membership| membership.control_plane.as_deref()).unwrap_or("linkerd");
        let peer = linkerd::authorization::Peer { identity: caller, address, control_plane };
        if let Some(of) = index.server(&server.name.namespace, &server.labels, port, &server.named_ports) {
            return index.speaking(of).rule(&peer, &index.linkerd, index);
        }
        let (access, by) = self.linkerd_default(server, port);
        let admits = access.admits(&peer, &index.linkerd);
        Ruling::new(if admits { Answer::NoPolicy } else { Answer::Denied }, by)
    }

    /// At the ports that the pod declares and those that have a server: what is denied at all of them is
    /// denied, whatever else the pod may listen on.
    fn linkerd_admits_somewhere(
        &self,
        server: &Pod,
        caller: Option<Identity<'_>>,
        address: IpAddr,
    ) -> Ruling {
        let declared = server.named_ports.iter().map(|(_, port)| *port);
        let numbers = self.index().server_ports(&server.name.namespace, &server.labels);
        let ports = declared.chain(numbers).filter(|port| !is_proxy_port(MeshKind::Linkerd, *port));
        let mut rulings = ports.map(|port| self.linkerd_admits(server, port, caller, address)).peekable();
        if rulings.peek().is_none() {
            return self.linkerd_admits(server, 0, caller, address);
        }
        let openness = |ruling: &Ruling| match ruling.answer {
            Answer::Denied => 0,
            Answer::Unknown => 1,
            Answer::NoPolicy => 2,
            Answer::Allowed => 3,
        };
        let most = rulings.reduce(|a, b| if openness(&b) > openness(&a) { b } else { a });
        most.unwrap_or_else(|| {
            Ruling::new(Answer::NoPolicy, Decider::Default("nothing says who may call it"))
        })
    }

    /// What `ExpectedSources` say of a caller; `None` where none selects the server. Several add up.
    fn expected(&self, server: &Pod, caller: Option<Identity<'_>>) -> Option<Ruling> {
        let all = self.index().expected_sources.get(&server.name.namespace)?;
        let by = |sources: &ExpectedSources| {
            ObjectKey { kind: Kind::ExpectedSources, name: sources.name.clone() }
                .field("spec.serviceAccounts")
        };
        let mut deciding = None;
        for sources in all.iter().filter(|sources| sources.selector.matches(&server.labels)) {
            let named = caller.is_some_and(|caller| {
                sources.service_accounts.iter().any(|account| {
                    *account.namespace == *caller.namespace && *account.name == *caller.service_account
                })
            });
            if named {
                return Some(Ruling::new(Answer::Allowed, by(sources)));
            }
            deciding.get_or_insert(sources);
        }
        deciding.map(|sources| Ruling::new(Answer::Denied, by(sources)))
    }

    /// What a client's pod is expected to send to `port` of a server's pod, at `address`.
    #[must_use]
    pub fn client_tls(
        &self,
        client: &Pod,
        server: &Pod,
        port: u16,
        address: IpAddr,
        dialled: Option<Dialled<'_>>,
    ) -> ClientTls {
        let answer = |sends, decided_by| ClientTls { sends, decided_by, doubt: None };
        let plaintext = |decided_by| answer(Sends::Plaintext, decided_by);
        let no_proxy = |pod: &Pod| Decider::pod(&pod.name, "spec.containers: no mesh proxy");
        let Some(from) = &client.proxy.membership else { return plaintext(no_proxy(client)) };
        let dialled_port = dialled.map_or(port, |dialled| dialled.port);
        if let Some(field) = from.leaves_out(address, dialled_port) {
            return plaintext(Decider::pod(&client.name, field));
        }
        let index = self.index();
        if from.mesh == MeshKind::Istio
            && let Some(dialled) = dialled
            && let Some(told) = index.destination_rules.told(
                &index.mesh,
                &client.name.namespace,
                &client.labels,
                dialled.service,
                dialled.port,
                &server.labels,
            )
        {
            let sends = match told.mode {
                TlsMode::Disable => Sends::Plaintext,
                TlsMode::Simple | TlsMode::Mutual => Sends::Tls,
                TlsMode::IstioMutual => Sends::MeshMtls,
            };
            // Where the pod itself may have been dialled, a rule explains plaintext and nothing else.
            if !dialled.guessed || sends == Sends::Plaintext {
                return ClientTls { sends, decided_by: told.decided_by, doubt: told.doubt };
            }
        }
        let Some(to) = server.proxy.membership.as_ref().filter(|to| to.mesh.joins(from.mesh)) else {
            return plaintext(no_proxy(server));
        };
        match from.mesh {
            MeshKind::Linkerd => {
                if to.control_plane != from.control_plane {
                    return plaintext(Decider::pod(
                        &server.name,
                        "metadata.labels[linkerd.io/control-plane-ns]",
                    ));
                }
                match gap(server, port, Some(to.mesh)) {
                    Some(by) => plaintext(by),
                    None => answer(Sends::MeshMtls, Decider::Default("both pods are in Linkerd")),
                }
            }
            MeshKind::Ambient => match gap(server, port, Some(to.mesh)) {
                Some(by) => plaintext(by),
                None => answer(Sends::MeshMtls, Decider::Default("both pods are in Istio's ambient mesh")),
            },
            MeshKind::Istio => {
                let by_service = dialled.is_some_and(|dialled| !dialled.guessed);
                self.auto_mtls(server, port, to.announced, by_service)
            }
        }
    }

    fn auto_mtls(&self, server: &Pod, port: u16, announced: bool, by_service: bool) -> ClientTls {
        let index = self.index();
        let plaintext = |decided_by| ClientTls { sends: Sends::Plaintext, decided_by, doubt: None };
        if !by_service {
            return ClientTls {
                sends: Sends::Plaintext,
                decided_by: Decider::Default(
                    "the client dials the pod's address, which a sidecar passes on as it is",
                ),
                doubt: Some("a headless service has the pods' addresses, and its clients speak mTLS"),
            };
        }
        if !index.mesh.auto_mtls {
            return plaintext(Decider::Default("Istio's mesh configuration, enableAutoMtls: false"));
        }
        let (objects, mesh) = (&index.peer_authentications, &index.mesh);
        let namespace = peer_authentication::of_namespace(objects, mesh, &server.name.namespace);
        if namespace.mode == Mode::Disable {
            return plaintext(namespace.decided_by);
        }
        if !announced {
            return plaintext(Decider::pod(&server.name, "metadata.labels[security.istio.io/tlsMode]"));
        }
        let own = peer_authentication::of_workload(
            objects,
            mesh,
            &server.name.namespace,
            &server.labels,
            Some(port),
        );
        if own.mode == Mode::Disable {
            return plaintext(own.decided_by);
        }
        ClientTls {
            sends: Sends::MeshMtls,
            decided_by: Decider::Default("Istio's auto mTLS: both pods have a sidecar"),
            doubt: None,
        }
    }

    /// Hosts of one namespace with several rules for the same clients, of which the oldest counts.
    #[must_use]
    pub fn rule_conflicts(&self) -> Vec<(String, Vec<Arc<istio::DestinationRule>>)> {
        self.index().destination_rules.conflicts()
    }

    /// The exceptions that are about this traffic, ended or not, oldest first. Without a port, those of any.
    #[must_use]
    pub fn exceptions(
        &self,
        server: &Pod,
        port: Option<u16>,
        client: Option<Identity<'_>>,
        address: IpAddr,
    ) -> Vec<&TrafficException> {
        let found = self.index().exceptions.matching(&server.name.namespace, &server.labels);
        found
            .into_iter()
            .map(|exception| &**exception)
            .filter(|exception| exception.covers(&server.labels, port, client, address))
            .collect()
    }
}

/// Why no proxy stands before `port` of a pod, where none does.
fn gap(pod: &Pod, port: u16, mesh: Option<MeshKind>) -> Option<Decider> {
    let Some(membership) = pod.proxy.membership.as_ref().filter(|membership| Some(membership.mesh) == mesh)
    else {
        let field = if pod.host_network { "spec.hostNetwork" } else { "spec.containers: no mesh proxy" };
        return Some(Decider::pod(&pod.name, field));
    };
    membership.passes_by(port).map(|field| Decider::pod(&pod.name, field))
}
