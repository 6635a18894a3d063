//! Owns the words for what is told: the flow, and the update of one.

use detector_ebpf::{
    evidence::Evidence,
    method::Methods,
    verdict::{Protocol, Verdict},
};

use super::{End, Timestamp, TlsNames, TlsSeen};

/// What happened between two ends on a port, as one verdict and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opened the connections.
    pub client: End,
    /// Who accepted them.
    pub server: End,
    /// The server's port: the pod's own where the pod is known, else the one that was dialled.
    pub port: u16,
    /// What the connections are.
    pub verdict: Verdict,
    /// The protocol of plaintext ones.
    pub protocol: Protocol,
    /// All evidence that was found.
    pub evidence: Evidence,
    /// All MCP methods that were found.
    pub methods: Methods,
    /// What TLS clients have said in clear.
    pub tls: TlsNames,
    /// Which classes of TLS they have offered.
    pub offered: TlsSeen,
    /// How many connections there were.
    pub connections: u64,
    /// How many of them carried credentials in clear.
    pub with_credentials: u64,
    /// How many the server answered with payload.
    pub answered: u64,
    /// How many the server refused.
    pub refused: u64,
    /// Time of the first verdict.
    pub first_seen: Timestamp,
    /// Time of the last verdict or message.
    pub last_seen: Timestamp,
}

impl Flow {
    /// Whether the server answered plaintext with payload at least once.
    #[must_use]
    pub fn served(&self) -> bool {
        self.answered > 0 || self.evidence.any(Evidence::ANSWERED)
    }

    /// Whether credentials went over the wire in clear.
    #[must_use]
    pub fn credentials(&self) -> bool {
        self.evidence.any(Evidence::CREDENTIALS)
    }
}

/// Names a flow for as long as the process lives.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(pub(super) u64);

impl FlowId {
    /// Its number: later flows have higher ones, and none is used again.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// A flow by number, for tests.
    #[cfg(test)]
    pub(crate) const fn of(number: u64) -> Self {
        Self(number)
    }
}

/// Why a flow is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is new.
    New,
    /// It has evidence or methods that it did not have.
    Evidence,
    /// Only its counts grew.
    Count,
}

/// A flow that is new or that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which flow.
    pub id: FlowId,
    /// The flow as it is now.
    pub flow: Flow,
    /// Connections since it was last told.
    pub new_connections: u64,
    /// Those of them that carried credentials in clear, and earlier ones that turned out to.
    pub new_with_credentials: u64,
    /// What is new about it.
    pub news: News,
    /// Whether it is worth a line in a log: counts alone are every [`super::Flows::REPORT`] at most.
    pub report: bool,
}
