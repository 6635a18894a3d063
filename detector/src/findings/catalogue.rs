//! Owns the catalogue: the ids that alerts, runbooks and exceptions are keyed by, and the severities.
//!
//! An id is an interface: it is never renamed and never given another meaning.

use std::fmt;

use crate::flows::End;

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])* $variant:ident = $id:literal;)*) => {
        /// What was found, as an entry of the catalogue.
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FindingId {
            $($(#[doc = $doc])* $variant,)*
        }

        impl FindingId {
            /// Every entry.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable id.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// What it is, in one sentence.
            #[must_use]
            pub fn summary(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*).trim(),)*
                }
            }
        }
    };
}

catalogue! {
    /// MCP in plaintext.
    PlaintextMcp = "plaintext-mcp";
    /// Credentials in plaintext, of another protocol than MCP.
    PlaintextCredentials = "plaintext-credentials";
    /// Plaintext that is neither MCP nor carries credentials.
    PlaintextOther = "plaintext-other";
    /// Plaintext to a port for which mTLS alone is declared.
    PlaintextInStrict = "plaintext-in-strict";
    /// Plaintext to a port that takes both.
    PlaintextInPermissive = "plaintext-in-permissive";
    /// Plaintext to a port that is declared to take it.
    PlaintextExempt = "plaintext-exempt";
    /// A client in the mesh that reaches a server in the clear.
    MeshBypass = "mesh-bypass";
    /// TLS that is not the mesh's, where the mesh's is declared.
    TlsNotMesh = "tls-not-mesh";
    /// TLS of a version that nobody should offer any more.
    WeakTls = "weak-tls";
    /// A client that no declaration expects at this server.
    UnexpectedSource = "unexpected-source";
    /// A pod that sends with another pod's address.
    SpoofedSource = "spoofed-source";
    /// A client with an address that nobody is known to have.
    UnidentifiedSource = "unidentified-source";
    /// A server name that asks for another service account than the server's.
    IdentityMismatch = "identity-mismatch";
    /// A workload that takes plaintext beside mTLS.
    PermissiveMtls = "permissive-mtls";
    /// A workload that still takes plaintext past the deadline that was set for it.
    PermissiveOverdue = "permissive-overdue";
    /// A workload for which mTLS is declared off.
    MtlsDisabled = "mtls-disabled";
    /// A port for which mTLS is declared off, against its workload.
    PortExempt = "port-exempt";
    /// Ports that a pod's annotations keep from its proxy.
    PortsExcluded = "ports-excluded";
    /// A workload that no mesh stands before.
    NotMeshed = "not-meshed";
    /// A rule that has clients send no mesh mTLS to a server that takes it.
    DestinationRuleDowngrade = "destination-rule-downgrade";
    /// Several rules for one host, of which one counts.
    DestinationRuleConflict = "destination-rule-conflict";
    /// A workload that admits every caller.
    NoAuthorization = "no-authorization";
    /// A policy that admits whoever is in the mesh.
    WildcardPrincipal = "wildcard-principal";
    /// A port of Linkerd's that admits callers without an identity.
    LinkerdUnauthenticated = "linkerd-unauthenticated";
    /// A server of Linkerd's whose access policy admits callers that nobody named.
    LinkerdServerUnprotected = "linkerd-server-unprotected";
    /// A workload that runs as its namespace's default service account, and so shares its identity.
    DefaultServiceAccount = "default-service-account";
    /// An exception that has ended.
    ExceptionExpired = "exception-expired";
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a ticket some day.
    Low,
    /// Worth a ticket.
    Medium,
    /// Worth today.
    High,
    /// Worth waking somebody.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The severity's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The next milder one.
    #[must_use]
    pub const fn lower(self) -> Self {
        match self {
            Self::Info | Self::Low => Self::Info,
            Self::Medium => Self::Low,
            Self::High => Self::Medium,
            Self::Critical => Self::High,
        }
    }
}

/// An end in a sentence.
pub(super) fn describe(end: &End) -> impl fmt::Display + '_ {
    struct Describe<'a>(&'a End);
    impl fmt::Display for Describe<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                End::Pod { pod, .. } => {
                    write!(f, "pod {} (service account {})", pod.name, pod.service_account)
                }
                End::Service { service, .. } => write!(f, "service {}", service.name),
                End::Node { name, address } if name.is_empty() => write!(f, "the node at {address}"),
                End::Node { name, .. } => write!(f, "node {name}"),
                End::Spoofed { owner, sender, address } => {
                    write!(f, "pod {} with {address}, the address of pod {}", sender.name, owner.name)
                }
                End::External { address } => write!(f, "{address} outside the cluster"),
                End::Unknown { address } => write!(f, "unidentified address {address}"),
            }
        }
    }
    Describe(end)
}

#[cfg(test)]
mod tests {
    use super::{FindingId, Severity};

    #[test]
    fn ids_are_kebab_case_and_unique() {
        let mut ids: Vec<_> = FindingId::ALL.iter().map(|id| id.as_str()).collect();
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), FindingId::ALL.len());
    }

    #[test]
    fn severities_order_from_info_to_critical() {
        assert!(Severity::ALL.is_sorted());
        assert!(Severity::ALL.iter().all(|severity| severity.lower() <= *severity));
    }
}
