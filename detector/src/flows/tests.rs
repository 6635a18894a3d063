//! Flows from edges as the kernel counts them.

use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};

use super::{Clock, End, Flows, News, Timestamp, Update};
use crate::{
    cluster::{Store, objects::Object},
    testing::{edge, pod, service, value},
};

const CLIENT: &str = "10.244.0.2";
const SERVER: &str = "10.244.0.3";
const SECOND: &str = "10.244.0.4";
const CLUSTER_IP: &str = "10.96.0.10";

/// A client, a service with its pod, and what `kube-proxy` would make of them.
fn store(servers: &[(&str, &str)]) -> Store {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("mcp", "client", &[CLIENT])));
    for (name, address) in servers {
        let mut pod = pod("mcp", "tools", &[address]);
        pod.uid = format!("uid-{name}").into();
        pod.name.name = (*name).into();
        store.apply(Object::Pod(pod));
    }
    store.apply(Object::Service(service("tools", CLUSTER_IP)));
    store
}

fn one_server() -> Store {
    store(&[("tools-1", SERVER)])
}

fn two_servers() -> Store {
    store(&[("tools-1", SERVER), ("tools-2", SECOND)])
}

fn flows() -> Flows {
    Flows::new(Clock { offset_ns: 1_000 })
}

/// The same edge, as the client's interface shows it.
fn from_pod(key: EdgeKey) -> EdgeKey {
    EdgeKey { ifindex: 6, flags: key.flags | EdgeKey::FROM_POD, ..key }
}

fn mcp(key: EdgeKey) -> EdgeKey {
    EdgeKey { protocol: Protocol::Mcp as u8, ..key }
}

fn http(entered: u64) -> EdgeValue {
    value(entered, 0, Evidence::HTTP_REQUEST)
}

/// Server's name, port and connections of each update.
fn told(updates: &[Update]) -> Vec<(String, u16, u64)> {
    updates
        .iter()
        .map(|update| {
            let name = match &update.flow.server {
                End::Pod { pod, .. } => pod.name.name.to_string(),
                End::Service { service, .. } => format!("service {}", service.name.name),
                other => other.address().to_string(),
            };
            (name, update.flow.port, update.flow.connections)
        })
        .collect()
}

fn row(name: &str, port: u16, connections: u64) -> (String, u16, u64) {
    (name.to_owned(), port, connections)
}

#[test]
fn a_flow_is_told_once_it_has_settled_and_then_only_when_it_changes() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.event(&store, &key, &http(1), 40_000, 0);
    assert_eq!(flows.deadline(0), Some(Flows::HOLD));
    assert_eq!(flows.settle(&store, Flows::HOLD - 1), []);
    let updates = flows.settle(&store, Flows::HOLD);
    assert_eq!(told(&updates), [row("tools-1", 8000, 1)]);
    assert_eq!((updates[0].news, updates[0].new_connections, updates[0].report), (News::New, 1, true));
    assert_eq!(updates[0].flow.first_seen, Timestamp(1_001));
    assert_eq!(flows.deadline(Flows::HOLD), None);
    flows.snapshot(&store, &[(key, http(1))], 2 * Flows::HOLD);
    assert_eq!(flows.settle(&store, 9 * Flows::HOLD), []);
}

#[test]
fn one_connection_on_two_interfaces_is_one_flow() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.event(&store, &from_pod(key), &http(1), 40_000, 0);
    flows.event(&store, &key, &http(1), 40_000, 0);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD)), [row("tools-1", 8000, 1)]);
}

#[test]
fn a_connection_through_a_service_with_one_pod_is_one_flow_to_the_pod() {
    let (store, mut flows) = (one_server(), flows());
    flows.event(&store, &from_pod(edge(CLIENT, CLUSTER_IP, 80)), &http(1), 40_000, 0);
    flows.event(&store, &edge(CLIENT, SERVER, 8000), &http(1), 40_000, 0);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD)), [row("tools-1", 8000, 1)]);
    assert_eq!(flows.settle(&store, u64::MAX / 2), []);
}

#[test]
fn connections_through_a_service_are_those_of_the_pods_that_served_them() {
    let (store, mut flows) = (two_servers(), flows());
    flows.event(&store, &from_pod(edge(CLIENT, CLUSTER_IP, 80)), &http(3), 40_000, 0);
    flows.event(&store, &edge(CLIENT, SERVER, 8000), &http(2), 40_000, 0);
    flows.event(&store, &edge(CLIENT, SECOND, 8000), &http(1), 40_000, 0);
    let updates = flows.settle(&store, Flows::HOLD);
    assert_eq!(told(&updates), [row("tools-1", 8000, 2), row("tools-2", 8000, 1)]);
}

#[test]
fn what_pods_on_other_nodes_served_is_left_with_the_service() {
    let (store, mut flows) = (two_servers(), flows());
    flows.event(&store, &from_pod(edge(CLIENT, CLUSTER_IP, 80)), &http(3), 40_000, 0);
    // Two through the service, and one that dialled the pod itself.
    flows.event(&store, &edge(CLIENT, SERVER, 8000), &http(3), 40_000, 0);
    flows.event(&store, &from_pod(edge(CLIENT, SERVER, 8000)), &http(1), 40_000, 0);
    let updates = flows.settle(&store, Flows::HOLD);
    assert_eq!(told(&updates), [row("tools-1", 8000, 3), row("service tools", 80, 1)]);
    assert_eq!(updates[1].flow.server.pod().unwrap().workload.name.as_ref(), "tools");
}

#[test]
fn a_difference_between_the_views_that_does_not_last_is_not_counted() {
    let (store, mut flows) = (two_servers(), flows());
    let (seen, served) = (from_pod(edge(CLIENT, CLUSTER_IP, 80)), edge(CLIENT, SERVER, 8000));
    flows.snapshot(&store, &[(seen, http(1)), (served, http(1))], 0);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD)), [row("tools-1", 8000, 1)]);
    // The map was read between the two counts of a second connection.
    let later = 100 * Flows::HOLD;
    flows.snapshot(&store, &[(seen, http(2)), (served, http(1))], later);
    assert_eq!(flows.settle(&store, later + Flows::HOLD), []);
    flows.snapshot(&store, &[(seen, http(2)), (served, http(2))], later + Flows::HOLD);
    let updates = flows.settle(&store, later + 2 * Flows::HOLD);
    assert_eq!(told(&updates), [row("tools-1", 8000, 2)]);
}

#[test]
fn a_connection_that_turns_out_to_be_mcp_is_told_as_mcp_only() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    for key in [from_pod(key), key] {
        flows.event(&store, &key, &http(1), 40_000, 0);
        flows.event(&store, &mcp(key), &value(1, 0, Evidence::MCP_METHOD), 40_000, 1);
    }
    let updates = flows.settle(&store, Flows::HOLD + 1);
    assert_eq!(told(&updates), [row("tools-1", 8000, 1)]);
    assert_eq!(updates[0].flow.protocol, Protocol::Mcp);
    // The snapshot says the same.
    let left = value(1, 1, Evidence::HTTP_REQUEST);
    flows.snapshot(&store, &[(key, left), (from_pod(key), left)], 2 * Flows::HOLD);
    assert_eq!(flows.settle(&store, 9 * Flows::HOLD), []);
}

#[test]
fn another_connection_of_the_same_pair_stays_what_it_was() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.event(&store, &key, &http(1), 40_000, 0);
    flows.event(&store, &mcp(key), &value(1, 0, Evidence::MCP_METHOD), 40_001, 1);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD + 1)), vec![row("tools-1", 8000, 1); 2]);
}

#[test]
fn counts_that_were_told_never_fall() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.snapshot(&store, &[(key, http(5))], 0);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD)), [row("tools-1", 8000, 5)]);
    flows.snapshot(&store, &[(key, value(5, 3, Evidence::HTTP_REQUEST))], 2 * Flows::HOLD);
    assert!(flows.settle(&store, 9 * Flows::HOLD).iter().all(|update| update.flow.connections == 5));
}

#[test]
fn credentials_are_part_of_the_flow() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    let secret = EdgeKey { flags: EdgeKey::CREDENTIALS, ..key };
    flows.event(&store, &key, &http(2), 40_000, 0);
    flows.event(&store, &secret, &value(1, 0, Evidence::AUTH_BEARER), 40_001, 0);
    let updates = flows.settle(&store, Flows::HOLD);
    assert_eq!(told(&updates), [row("tools-1", 8000, 3)]);
    assert!(updates[0].flow.credentials());
    assert_eq!(updates[0].flow.with_credentials, 1);
}

#[test]
fn new_evidence_is_news_and_counts_are_reported_now_and_then() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.event(&store, &key, &http(1), 40_000, 0);
    flows.settle(&store, Flows::HOLD);
    let richer = value(1, 0, Evidence::HTTP_REQUEST.or(Evidence::HTTP_RESPONSE));
    flows.event(&store, &key, &richer, 40_000, Flows::HOLD);
    let updates = flows.settle(&store, 2 * Flows::HOLD);
    assert_eq!((updates[0].news, updates[0].report), (News::Evidence, true));
    flows.snapshot(&store, &[(key, EdgeValue { entered: 2, ..richer })], 3 * Flows::HOLD);
    let updates = flows.settle(&store, 4 * Flows::HOLD);
    assert_eq!((updates[0].news, updates[0].new_connections, updates[0].report), (News::Count, 1, false));
    let last = flows.finish(&store, 5 * Flows::HOLD);
    assert_eq!((last.len(), last[0].report, last[0].flow.connections), (1, true, 2));
    assert_eq!(flows.finish(&store, 6 * Flows::HOLD), []);
}

#[test]
fn a_pod_that_is_not_known_yet_is_waited_for() {
    let mut store = one_server();
    let mut flows = flows();
    let key = edge("10.244.0.99", SERVER, 8000);
    flows.event(&store, &key, &http(1), 40_000, 0);
    assert_eq!(flows.settle(&store, Flows::WAIT / 3), []);
    store.apply(Object::Pod(pod("mcp", "late", &["10.244.0.99"])));
    assert!(flows.deadline(Flows::HOLD).is_some_and(|at| at < Flows::WAIT), "asks again before the end");
    flows.settle(&store, Flows::WAIT / 2);
    let updates = flows.settle(&store, Flows::WAIT / 2 + Flows::HOLD);
    let End::Pod { pod, .. } = &updates[0].flow.client else { panic!("{updates:?}") };
    assert_eq!(pod.name.name.as_ref(), "late");
    assert_eq!(flows.len(), 1, "the stranger is forgotten");
}

#[test]
fn a_pod_that_never_gets_known_is_told_as_unknown() {
    let (store, mut flows) = (one_server(), flows());
    flows.event(&store, &edge("10.244.0.99", SERVER, 8000), &http(1), 40_000, 0);
    let updates = flows.settle(&store, Flows::WAIT);
    assert!(matches!(updates[0].flow.client, End::Unknown { .. }), "{updates:?}");
    assert_eq!(flows.deadline(Flows::WAIT), None);
}

#[test]
fn an_address_of_the_world_is_not_waited_for_unless_a_pods_interface_showed_it() {
    let (store, mut flows) = (one_server(), flows());
    flows.event(&store, &edge("203.0.113.9", SERVER, 8000), &http(1), 40_000, 0);
    let updates = flows.settle(&store, Flows::HOLD);
    assert!(matches!(updates[0].flow.client, End::External { .. }), "{updates:?}");
    flows.event(&store, &from_pod(edge("2600::5", "203.0.113.9", 443)), &http(1), 40_000, 0);
    assert_eq!(flows.settle(&store, Flows::HOLD), []);
}

#[test]
fn without_any_identity_nothing_is_waited_for() {
    let (store, mut flows) = (Store::default(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.event(&store, &key, &http(1), 40_000, 0);
    flows.event(&store, &from_pod(key), &http(1), 40_000, 0);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD)), [row(SERVER, 8000, 1)]);
}

#[test]
fn an_address_that_passes_on_takes_only_later_connections_with_it() {
    let mut store = one_server();
    let mut flows = flows();
    let key = edge(CLIENT, SERVER, 8000);
    flows.snapshot(&store, &[(key, http(4))], 0);
    assert_eq!(told(&flows.settle(&store, Flows::HOLD)), [row("tools-1", 8000, 4)]);
    let mut heir = pod("mcp", "heir", &[SERVER]);
    heir.uid = "uid-heir".into();
    store.apply(Object::Pod(heir));
    flows.snapshot(&store, &[(key, http(4))], 2 * Flows::HOLD);
    assert_eq!(flows.settle(&store, 3 * Flows::HOLD), [], "nothing happened since");
    flows.snapshot(&store, &[(key, http(5))], 4 * Flows::HOLD);
    assert_eq!(told(&flows.settle(&store, 5 * Flows::HOLD)), [row("heir", 8000, 1)]);
}

#[test]
fn an_edge_that_the_kernel_forgot_and_made_again_goes_on_counting() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.snapshot(&store, &[(key, http(4))], 0);
    flows.settle(&store, Flows::HOLD);
    let again = EdgeValue { entered: 1, first_ns: 50, last_ns: 50, ..http(1) };
    flows.snapshot(&store, &[(key, again)], 2 * Flows::HOLD);
    let updates = flows.settle(&store, 3 * Flows::HOLD);
    assert_eq!((told(&updates), updates[0].new_connections), (vec![row("tools-1", 8000, 5)], 1));
}

#[test]
fn edges_that_are_gone_leave_their_counts_and_in_the_end_the_flow_is_forgotten() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    flows.snapshot(&store, &[(key, http(4))], 0);
    flows.settle(&store, Flows::HOLD);
    flows.snapshot(&store, &[], 2 * Flows::HOLD);
    flows.snapshot(&store, &[], 3 * Flows::HOLD);
    assert_eq!(flows.len(), 1);
    flows.snapshot(&store, &[(key, EdgeValue { first_ns: 9, last_ns: 9, ..http(1) })], 4 * Flows::HOLD);
    assert_eq!(told(&flows.settle(&store, 5 * Flows::HOLD)), [row("tools-1", 8000, 5)]);
    for round in 1..=3 {
        flows.snapshot(&store, &[], 2 * Flows::FORGET + round);
    }
    assert!(flows.is_empty());
}

#[test]
fn undecided_is_no_flow_and_a_code_of_another_version_neither() {
    let (store, mut flows) = (one_server(), flows());
    let key = edge(CLIENT, SERVER, 8000);
    let undecided = EdgeKey { verdict: Verdict::Undecided as u8, protocol: 0, ..key };
    flows.event(&store, &undecided, &http(1), 40_000, 0);
    flows.event(&store, &EdgeKey { verdict: 200, ..key }, &http(1), 40_000, 0);
    assert!(flows.is_empty());
}

#[test]
fn tls_that_is_met_in_mid_stream_adds_nothing_to_what_is_known_of_a_pair() {
    let (store, mut flows) = (one_server(), flows());
    let tls = |verdict: Verdict, flags: u8| EdgeKey {
        verdict: verdict as u8,
        protocol: Protocol::None as u8,
        flags,
        ..edge(CLIENT, SERVER, 8000)
    };
    let met = tls(Verdict::Tls, EdgeKey::PICKED_UP);
    flows.event(&store, &tls(Verdict::MeshMtls, 0), &value(1, 0, Evidence::ALPN_ISTIO), 40_000, 0);
    assert_eq!(flows.settle(&store, Flows::HOLD).len(), 1);
    flows.event(&store, &met, &value(1, 0, Evidence::NONE), 40_000, 2 * Flows::HOLD);
    assert!(flows.settle(&store, 4 * Flows::HOLD).is_empty(), "a mesh's pair is not called other TLS");
}

#[test]
fn what_a_client_has_said_is_told_with_its_flow() {
    let (store, mut flows) = (one_server(), flows());
    let key = EdgeKey { verdict: Verdict::Tls as u8, protocol: 0, ..edge(CLIENT, SERVER, 443) };
    let mut hello = detector_ebpf::event::HelloEvent { key, ..Default::default() };
    hello.hello.sni[..3].copy_from_slice(b"a.b");
    hello.hello.sni_len = 3;
    flows.hello(&hello);
    flows.event(&store, &key, &value(1, 0, Evidence::SNI), 40_000, 0);
    let updates = flows.settle(&store, Flows::HOLD);
    assert_eq!(updates[0].flow.tls.server_names.first().map(String::as_str), Some("a.b"));
}

#[test]
fn connections_that_bear_a_pods_address_and_are_anothers_are_not_told_as_its_own() {
    let mut store = one_server();
    store.apply(Object::Pod(pod("lab", "liar", &["10.244.0.66"])));
    let behind = [(6, [CLIENT.parse().unwrap()].into()), (66, ["10.244.0.66".parse().unwrap()].into())];
    store.set_links(behind.into());
    let clients = |updates: &[Update]| -> Vec<_> {
        let name = |update: &Update| update.flow.client.pod().unwrap().name.name.to_string();
        updates.iter().map(|update| (name(update), update.flow.connections)).collect()
    };
    let mut flows = flows();
    let received = edge(CLIENT, SERVER, 8000);
    let forged = EdgeKey { ifindex: 66, ..from_pod(received) };
    flows.event(&store, &forged, &http(2), 40_000, 0);
    flows.event(&store, &received, &http(2), 40_000, 0);
    assert_eq!(clients(&flows.settle(&store, Flows::HOLD)), [("liar".to_owned(), 2)]);
    // Three of the pod's own.
    flows.snapshot(&store, &[(forged, http(2)), (from_pod(received), http(3)), (received, http(5))], 1);
    assert_eq!(clients(&flows.settle(&store, 9 * Flows::HOLD)), [("client".to_owned(), 3)]);
    // A pod of another node has only the server's view.
    let elsewhere = pod("mcp", "elsewhere", &["10.244.9.9"]);
    store.apply(Object::Pod(elsewhere));
    flows.snapshot(&store, &[(edge("10.244.9.9", SERVER, 8000), http(4))], 20 * Flows::HOLD);
    assert_eq!(clients(&flows.settle(&store, 30 * Flows::HOLD)), [("elsewhere".to_owned(), 4)]);
}
