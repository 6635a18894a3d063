//! Owns who Linkerd admits at a port: the union of what its objects allow. Nothing denies.
//!
//! Source: Linkerd's policy-controller/k8s/index/src/inbound/index.rs (`client_authzs`, `policy_client_authz`,
//! `route_client_authzs`), server_authorization.rs and meshtls_authentication.rs beside it, and ../defaults.rs.

use std::{net::IpAddr, sync::Arc};

use super::{LinkerdConfig, Server};
use crate::{
    cluster::{Selector, objects::Name},
    policy::{
        decision::{Answer, Decider, Kind, ObjectKey, Ruling, Truth},
        index::Meta,
        istio::Identity,
        matching::{Network, Text},
    },
};

/// A default inbound policy, or a `Server`'s `accessPolicy`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    AllUnauthenticated,
    /// Everybody in the mesh.
    AllAuthenticated,
    /// Everybody from the cluster's networks.
    ClusterUnauthenticated,
    /// Everybody in the mesh, from the cluster's networks.
    ClusterAuthenticated,
    /// Nobody.
    Deny,
    /// Everybody, and what no policy admits is logged.
    Audit,
}

impl Access {
    /// The policy that Linkerd calls `name`.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        Some(match name {
            "all-unauthenticated" => Self::AllUnauthenticated,
            "all-authenticated" => Self::AllAuthenticated,
            "cluster-unauthenticated" => Self::ClusterUnauthenticated,
            "cluster-authenticated" => Self::ClusterAuthenticated,
            "deny" => Self::Deny,
            "audit" => Self::Audit,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::AllAuthenticated => "all-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }

    /// Whether it admits peers without an identity.
    #[must_use]
    pub const fn takes_plaintext(self) -> bool {
        matches!(self, Self::AllUnauthenticated | Self::ClusterUnauthenticated | Self::Audit)
    }

    /// Whether it admits a caller.
    #[must_use]
    pub fn admits(self, caller: &Peer<'_>, config: &LinkerdConfig) -> bool {
        let inside = || config.cluster_networks.iter().any(|network| network.contains(caller.address));
        match self {
            Self::AllUnauthenticated | Self::Audit => true,
            Self::AllAuthenticated => caller.identity.is_some(),
            Self::ClusterUnauthenticated => inside(),
            Self::ClusterAuthenticated => caller.identity.is_some() && inside(),
            Self::Deny => false,
        }
    }
}

/// Networks, each with parts that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Box<[(Network, Box<[Network]>)]>);

impl Networks {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(network, except)| {
            network.contains(address) && !except.iter().any(|part| part.contains(address))
        })
    }
}

/// What a `ServerAuthorization` asks of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// Nothing.
    Unauthenticated,
    /// TLS, whoever it is.
    UnauthenticatedTls,
    /// One of these identities or service accounts.
    Mesh {
        /// Identities.
        identities: Box<[Text]>,
        /// Service accounts.
        service_accounts: Box<[Name]>,
    },
}

/// A `ServerAuthorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAuthorization {
    /// Its metadata.
    pub meta: Meta,
    /// The server that it is for, by name.
    pub server: Option<Arc<str>>,
    /// The servers that it is for, by their labels (not those of pods).
    pub selector: Option<Selector>,
    /// What it asks of clients.
    pub client: Client,
    /// From where; anywhere, where it says nothing.
    pub networks: Option<Networks>,
}

/// What an `AuthorizationPolicy` is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A server.
    Server(Arc<str>),
    /// All servers of its namespace.
    Namespace,
    /// A route of a server: which requests take it is not visible.
    Route(Box<str>),
    /// Something else.
    Other(Box<str>),
}

/// A reference to an authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind: `MeshTLSAuthentication`, `NetworkAuthentication` or `ServiceAccount`.
    pub kind: Box<str>,
    /// Namespace and name.
    pub name: Name,
}

/// Linkerd's `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// What it is for.
    pub target: Target,
    /// What must hold of a client: all of these.
    pub required: Box<[Reference]>,
}

/// A `MeshTLSAuthentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshTlsAuthentication {
    /// Its metadata.
    pub meta: Meta,
    /// Identities.
    pub identities: Box<[Text]>,
    /// Service accounts.
    pub service_accounts: Box<[Name]>,
    /// Namespaces, of which every service account is meant.
    pub namespaces: Box<[Arc<str>]>,
}

/// A `NetworkAuthentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAuthentication {
    /// Its metadata.
    pub meta: Meta,
    /// The networks.
    pub networks: Networks,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its identity; a plaintext peer has none.
    pub identity: Option<Identity<'a>>,
    /// Its address.
    pub address: IpAddr,
    /// The namespace of its control plane.
    pub control_plane: &'a str,
}

impl Peer<'_> {
    fn is_any(&self, identities: &[Text], trust_domain: &str) -> bool {
        self.identity.is_some_and(|Identity { namespace, service_account }| {
            let parts = [
                service_account,
                ".",
                namespace,
                ".serviceaccount.identity.",
                self.control_plane,
                ".",
                trust_domain,
            ];
            identities.iter().any(|text| text.matches_parts(&parts))
        })
    }

    fn is_account(&self, accounts: &[Name]) -> bool {
        self.identity.is_some_and(|identity| {
            accounts.iter().any(|account| {
                *account.namespace == *identity.namespace && *account.name == *identity.service_account
            })
        })
    }
}

impl ServerAuthorization {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::ServerAuthorization, name: self.meta.name.clone() }
    }

    /// Whether it is for a server of its namespace.
    #[must_use]
    pub fn is_for(&self, server: &Server) -> bool {
        self.meta.name.namespace == server.meta.name.namespace
            && (self.server.as_ref().is_some_and(|name| *name == server.meta.name.name)
                || self.selector.as_ref().is_some_and(|selector| selector.matches(&server.labels)))
    }

    /// Whether it admits plaintext from somewhere.
    #[must_use]
    pub fn takes_plaintext(&self) -> bool {
        self.client == Client::Unauthenticated
    }

    fn admits(&self, peer: &Peer<'_>, config: &LinkerdConfig) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.contains(peer.address))
            && match &self.client {
                Client::Unauthenticated => true,
                Client::UnauthenticatedTls => peer.identity.is_some(),
                Client::Mesh { identities, service_accounts } => {
                    peer.is_any(identities, &config.trust_domain) || peer.is_account(service_accounts)
                }
            }
    }
}

impl AuthorizationPolicy {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::LinkerdAuthorizationPolicy, name: self.meta.name.clone() }
    }

    /// Whether it asks for an identity.
    #[must_use]
    pub fn wants_identity(&self) -> bool {
        self.required.iter().any(|reference| &*reference.kind != "NetworkAuthentication")
    }
}

/// The authentications that policies refer to.
pub(in crate::policy) trait Authentications {
    fn mesh_tls(&self, name: &Name) -> Option<&MeshTlsAuthentication>;
    fn network(&self, name: &Name) -> Option<&NetworkAuthentication>;
}

impl AuthorizationPolicy {
    /// Whether it asks for more than can be asked: two identities or two networks, which counts for nothing
    /// (`policy_client_authz` fails, whatever they are).
    fn is_illegal(&self) -> bool {
        let networks =
            self.required.iter().filter(|reference| &*reference.kind == "NetworkAuthentication").count();
        networks > 1 || self.required.len() - networks > 1
    }

    /// Whether it admits a peer; `None` where it refers to something that is not there, or is illegal, and so
    /// counts for nothing.
    fn admits(&self, peer: &Peer<'_>, config: &LinkerdConfig, all: &impl Authentications) -> Option<bool> {
        if self.is_illegal() {
            return None;
        }
        let mut admits = true;
        for Reference { kind, name } in &self.required {
            admits &= match &**kind {
                "MeshTLSAuthentication" => {
                    let found = all.mesh_tls(name)?;
                    peer.is_any(&found.identities, &config.trust_domain)
                        || peer.is_account(&found.service_accounts)
                        || peer.identity.is_some_and(|identity| {
                            found.namespaces.iter().any(|namespace| **namespace == *identity.namespace)
                        })
                }
                "NetworkAuthentication" => all.network(name)?.networks.contains(peer.address),
                "ServiceAccount" => peer.is_account(std::slice::from_ref(name)),
                _ => return None,
            };
        }
        Some(admits)
    }
}

/// The objects that speak of one server.
pub(in crate::policy) struct Speaking<'a> {
    pub(in crate::policy) server: &'a Server,
    pub(in crate::policy) authorizations: Vec<&'a ServerAuthorization>,
    pub(in crate::policy) policies: Vec<&'a AuthorizationPolicy>,
}

impl Speaking<'_> {
    /// What the objects say of a peer.
    pub(in crate::policy) fn rule(
        &self,
        peer: &Peer<'_>,
        config: &LinkerdConfig,
        all: &impl Authentications,
    ) -> Ruling {
        if let Some(by) = self.authorizations.iter().find(|object| object.admits(peer, config)) {
            return Ruling::new(Answer::Allowed, by.key().field("spec.client"));
        }
        let mut route = Truth::No;
        let mut by_route = None;
        for policy in &self.policies {
            let admits = policy.admits(peer, config, all) == Some(true);
            match &policy.target {
                Target::Server(_) | Target::Namespace if admits => {
                    return Ruling::new(
                        Answer::Allowed,
                        policy.key().field("spec.requiredAuthenticationRefs"),
                    );
                }
                Target::Route(_) if admits => {
                    route = Truth::Maybe;
                    by_route.get_or_insert_with(|| policy.key().field("spec.targetRef"));
                }
                _ => {}
            }
        }
        let access = self.server.access;
        if access.admits(peer, config) {
            // What it admits without asking for anybody in particular is no word on callers.
            return Ruling::new(Answer::NoPolicy, self.server.key().field("spec.accessPolicy"));
        }
        match by_route {
            Some(decided_by) if route == Truth::Maybe => Ruling {
                answer: Answer::Unknown,
                decided_by,
                because: Some("it is for a route, and which requests take it is not visible".into()),
            },
            _ => Ruling::new(Answer::Denied, self.denied_by()),
        }
    }

    /// What admits plaintext at this server, if anything does; `address` narrows it to one client.
    pub(in crate::policy) fn plaintext(
        &self,
        address: Option<IpAddr>,
        config: &LinkerdConfig,
        all: &impl Authentications,
    ) -> Option<Decider> {
        let from = |networks: &Networks| address.is_none_or(|address| networks.contains(address));
        if let Some(by) = self
            .authorizations
            .iter()
            .find(|object| object.takes_plaintext() && object.networks.as_ref().is_none_or(from))
        {
            return Some(by.key().field("spec.client.unauthenticated"));
        }
        for policy in &self.policies {
            let counts = matches!(policy.target, Target::Server(_) | Target::Namespace)
                && !policy.wants_identity()
                && !policy.is_illegal()
                && policy
                    .required
                    .iter()
                    .all(|reference| all.network(&reference.name).is_some_and(|found| from(&found.networks)));
            if counts {
                return Some(policy.key().field("spec.requiredAuthenticationRefs"));
            }
        }
        let access = self.server.access;
        let admits = access.takes_plaintext()
            && address.is_none_or(|address| {
                access.admits(&Peer { identity: None, address, control_plane: "" }, config)
            });
        admits.then(|| self.server.key().field("spec.accessPolicy"))
    }

    /// What a denial is to be looked up in: the first object that admits others, or the server itself.
    fn denied_by(&self) -> Decider {
        let authorization = self.authorizations.first().map(|object| object.key().field("spec.client"));
        let policy = || {
            let policy = self
                .policies
                .iter()
                .find(|policy| matches!(policy.target, Target::Server(_) | Target::Namespace));
            policy.map(|policy| policy.key().field("spec.requiredAuthenticationRefs"))
        };
        authorization.or_else(policy).unwrap_or_else(|| self.server.key().field("spec.accessPolicy"))
    }
}
