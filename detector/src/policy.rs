//! Owns what should have been: which sources a server's declared policy expects.
//!
//! Pure: the store's objects in, a decision and the object that made it out. Today `ExpectedSources` alone
//! speaks; what the objects of Istio and Linkerd say of the same question joins [`PolicyView`].

use std::sync::Arc;

use crate::{
    cluster::{
        Store,
        objects::{ExpectedSources, Name},
    },
    flows::{End, Flow},
};

/// What policy says of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    /// Whether the client is expected.
    pub source: Expectation,
    /// Whether identities are known at all: if not, an unknown client means nothing.
    pub identities: bool,
}

/// Whether a client is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// A declaration names it.
    Expected {
        /// The declaration.
        by: Name,
    },
    /// Declarations select the server, and none names the client.
    Unexpected {
        /// The first of them by name.
        by: Arc<ExpectedSources>,
    },
    /// Nothing is declared for the server.
    NoPolicy,
}

impl PolicyView {
    /// What the policy in `store` says of `flow`.
    #[must_use]
    pub fn of(store: &Store, flow: &Flow) -> Self {
        Self { source: expectation(store, &flow.client, &flow.server), identities: !store.is_blind() }
    }
}

/// Whether declarations expect `client` at `server`. Several that select the same pod add up.
fn expectation(store: &Store, client: &End, server: &End) -> Expectation {
    let Some(pod) = server.pod() else { return Expectation::NoPolicy };
    let mut deciding = None;
    for sources in store.expected_sources(&pod.name.namespace) {
        if !sources.selector.matches(&pod.labels) {
            continue;
        }
        if let End::Pod { pod: caller, .. } = client {
            let named = sources.service_accounts.iter().any(|account| {
                account.namespace == caller.name.namespace && account.name == caller.service_account
            });
            if named {
                return Expectation::Expected { by: sources.name.clone() };
            }
        }
        deciding.get_or_insert(sources);
    }
    deciding.map_or(Expectation::NoPolicy, |by| Expectation::Unexpected { by })
}

#[cfg(test)]
mod tests {
    use super::{Expectation, expectation};
    use crate::{
        cluster::{
            Labels, Selector, Store,
            objects::{ExpectedSources, Name, Object},
        },
        flows::End,
        testing,
    };

    fn sources(name: &str, app: &str, accounts: &[&str]) -> Object {
        Object::ExpectedSources(ExpectedSources {
            name: Name::new("mcp", name),
            selector: Selector { match_labels: Labels::from_iter([("app", app)]), ..Selector::default() },
            service_accounts: accounts.iter().map(|account| Name::new("mcp", *account)).collect(),
        })
    }

    fn end(name: &str) -> End {
        End::Pod {
            pod: testing::pod("mcp", name, &["10.244.0.9"]).into(),
            address: testing::ip("10.244.0.9"),
        }
    }

    #[test]
    fn without_a_declaration_there_is_no_policy() {
        let mut store = Store::default();
        store.apply(sources("other", "something-else", &["gateway"]));
        assert_eq!(expectation(&store, &end("gateway"), &end("tools")), Expectation::NoPolicy);
    }

    #[test]
    fn declarations_for_one_server_add_up() {
        let mut store = Store::default();
        store.apply(sources("a", "tools", &["gateway"]));
        store.apply(sources("b", "tools", &["audit"]));
        for (client, by) in [("gateway", "a"), ("audit", "b")] {
            assert_eq!(
                expectation(&store, &end(client), &end("tools")),
                Expectation::Expected { by: Name::new("mcp", by) }
            );
        }
        let Expectation::Unexpected { by } = expectation(&store, &end("rogue"), &end("tools")) else {
            panic!("rogue is expected")
        };
        assert_eq!(by.name, Name::new("mcp", "a"));
    }

    #[test]
    fn an_account_of_the_same_name_in_another_namespace_is_not_expected() {
        let mut store = Store::default();
        store.apply(sources("a", "tools", &["gateway"]));
        let stranger = testing::pod("elsewhere", "gateway", &["10.244.0.9"]);
        let client = End::Pod { pod: stranger.into(), address: testing::ip("10.244.0.9") };
        assert!(matches!(expectation(&store, &client, &end("tools")), Expectation::Unexpected { .. }));
    }

    #[test]
    fn an_address_outside_the_cluster_is_never_named() {
        let mut store = Store::default();
        store.apply(sources("a", "tools", &["gateway"]));
        let client = End::External { address: testing::ip("203.0.113.9") };
        assert!(matches!(expectation(&store, &client, &end("tools")), Expectation::Unexpected { .. }));
    }
}
