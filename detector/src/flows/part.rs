//! Owns the part: one edge of the kernel, as it counts towards a flow.

use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    method::Methods,
};

use super::{FlowId, TlsSeen};

/// Where a connection was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// On the client's interface.
    Client = 0,
    /// On the server's interface.
    Server = 1,
}

impl View {
    pub(super) const COUNT: usize = 2;

    pub(super) fn of(key: &EdgeKey) -> Self {
        if key.flags & EdgeKey::FROM_POD == 0 { Self::Server } else { Self::Client }
    }
}

/// One connection, as an interface shows it: what stays the same when it moves to a richer edge.
#[derive(Debug, Hash, PartialEq, Eq)]
pub(super) struct Connection {
    ifindex: u32,
    client: [u8; 16],
    server: [u8; 16],
    client_port: u16,
    server_port: u16,
    from_pod: bool,
}

impl Connection {
    pub(super) fn of(key: &EdgeKey, client_port: u16) -> Self {
        Self {
            ifindex: key.ifindex,
            client: key.client,
            server: key.server,
            client_port,
            server_port: key.server_port,
            from_pod: key.flags & EdgeKey::FROM_POD != 0,
        }
    }
}

/// One edge, as it counts towards a flow.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The counts at which it began to count for this flow.
    base: EdgeValue,
    value: EdgeValue,
    pub(super) flow: FlowId,
    /// The store's generation by which the flow was found.
    pub(super) generation: u64,
    /// An end is waited for.
    pub(super) waiting: bool,
    /// The last snapshot that held it.
    pub(super) epoch: u32,
}

impl Part {
    pub(super) fn new(value: EdgeValue) -> Self {
        Self { base: EdgeValue::default(), value, flow: FlowId(0), generation: 0, waiting: false, epoch: 0 }
    }

    /// A part that counts what came after `before`.
    pub(super) fn after(before: &Self, value: EdgeValue) -> Self {
        // The evidence stays: an edge holds one class of connections, so it is true of the later ones as well.
        let mut next = Self::new(value);
        next.base = before.value;
        next.value.first_ns = before.value.last_ns;
        next
    }

    /// Whether `value` is of an edge that was made after this one was forgotten.
    pub(super) fn is_older_than(&self, value: &EdgeValue) -> bool {
        value.first_ns > self.value.last_ns && value.entered < self.value.entered
    }

    pub(super) fn would_grow(&self, value: &EdgeValue) -> bool {
        merged(&self.value, value) != self.value
    }

    pub(super) fn grow(&mut self, value: &EdgeValue) {
        self.value = merged(&self.value, value);
    }

    /// A connection left for a richer edge.
    pub(super) fn leave(&mut self) {
        if self.value.left < self.value.entered {
            self.value.left += 1;
        }
    }
}

/// Totals only grow; an event that comes late must not take anything back.
fn merged(a: &EdgeValue, b: &EdgeValue) -> EdgeValue {
    EdgeValue {
        entered: a.entered.max(b.entered),
        left: a.left.max(b.left),
        answered: a.answered.max(b.answered),
        refused: a.refused.max(b.refused),
        evidence: a.evidence | b.evidence,
        methods: a.methods | b.methods,
        first_ns: a.first_ns.min(b.first_ns),
        last_ns: a.last_ns.max(b.last_ns),
    }
}

/// What parts of one view add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) connections: u64,
    pub(super) with_credentials: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) evidence: Evidence,
    pub(super) methods: Methods,
    pub(super) offered: TlsSeen,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Sum {
    pub(super) fn add(&mut self, key: &EdgeKey, part: &Part) {
        let Part { base, value, .. } = part;
        let held = |value: &EdgeValue| value.entered.saturating_sub(value.left);
        let connections = held(value).saturating_sub(held(base));
        self.connections += connections;
        if key.flags & EdgeKey::CREDENTIALS != 0 {
            self.with_credentials += connections;
        }
        if connections == 0 {
            // Everything moved on, and its evidence with it.
            return;
        }
        self.answered += value.answered.saturating_sub(base.answered);
        self.refused += value.refused.saturating_sub(base.refused);
        self.evidence = self.evidence.or(value.evidence());
        self.methods = Methods(self.methods.0 | value.methods);
        self.offered = self.offered.or(TlsSeen::of_edge(key));
        self.first_ns = if self.first_ns == 0 { value.first_ns } else { self.first_ns.min(value.first_ns) };
        self.last_ns = self.last_ns.max(value.last_ns);
    }

    /// What is left when so many connections are not this flow's. Their evidence cannot be told apart: it goes
    /// with the last of them.
    pub(super) fn without(self, connections: u64) -> Self {
        let left = self.connections.saturating_sub(connections);
        if left == 0 && connections > 0 {
            return Self::default();
        }
        Self {
            connections: left,
            with_credentials: self.with_credentials.min(left),
            answered: self.answered.min(left),
            refused: self.refused.min(left),
            ..self
        }
    }

    /// One connection stands in both views, so the larger count is the true one.
    pub(super) fn of_views(views: &[Self; View::COUNT]) -> Self {
        let [a, b] = views;
        Self {
            connections: a.connections.max(b.connections),
            with_credentials: a.with_credentials.max(b.with_credentials),
            answered: a.answered.max(b.answered),
            refused: a.refused.max(b.refused),
            evidence: a.evidence.or(b.evidence),
            methods: Methods(a.methods.0 | b.methods.0),
            offered: a.offered.or(b.offered),
            first_ns: match (a.first_ns, b.first_ns) {
                (0, only) | (only, 0) => only,
                (a, b) => a.min(b),
            },
            last_ns: a.last_ns.max(b.last_ns),
        }
    }
}
