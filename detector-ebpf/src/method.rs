//! Owns the table of MCP's methods, over all protocol revisions.
//!
//! A method is a number below 64: the kernel keeps a set of them for each edge and never the bytes.
//! Source of the union: `schema.ts` of every revision, 2024-11-05 to 2026-07-28.

/// A set of MCP methods, one bit for each entry of [`METHODS`].
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Methods(pub u64);

impl Methods {
    /// The names of the methods in the set, in table order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        METHODS
            .iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, method)| method.name)
    }
}

/// One method of MCP.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The method's name on the wire.
    pub name: &'static str,
    /// Whether another JSON-RPC protocol has a method of this name, so that it proves nothing alone:
    /// LSP and ACP have `initialize`, A2A 0.3 has `tasks/…`.
    pub shared: bool,
}

const fn own(name: &'static str) -> Method {
    Method { name, shared: false }
}

const fn shared(name: &'static str) -> Method {
    Method { name, shared: true }
}

/// Every method of every revision. An entry's index is its bit in [`Methods`]: append, never reorder.
pub const METHODS: [Method; 36] = [
    shared("initialize"),
    shared("ping"),
    own("tools/list"),
    own("tools/call"),
    own("resources/list"),
    own("resources/read"),
    own("resources/templates/list"),
    own("resources/subscribe"),
    own("resources/unsubscribe"),
    own("prompts/list"),
    own("prompts/get"),
    own("completion/complete"),
    own("logging/setLevel"),
    own("sampling/createMessage"),
    own("roots/list"),
    own("elicitation/create"),
    shared("tasks/get"),
    shared("tasks/result"),
    shared("tasks/list"),
    shared("tasks/cancel"),
    shared("tasks/update"),
    own("server/discover"),
    own("subscriptions/listen"),
    own("notifications/initialized"),
    own("notifications/cancelled"),
    own("notifications/progress"),
    own("notifications/message"),
    own("notifications/roots/list_changed"),
    own("notifications/tools/list_changed"),
    own("notifications/prompts/list_changed"),
    own("notifications/resources/list_changed"),
    own("notifications/resources/updated"),
    own("notifications/tasks/status"),
    own("notifications/elicitation/complete"),
    own("notifications/subscriptions/acknowledged"),
    own("notifications/tasks"),
];
