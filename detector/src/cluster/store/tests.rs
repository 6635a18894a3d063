use std::net::IpAddr;

use super::{Backend, Holder, Store};
use crate::cluster::{
    Labels, Selector, Workload, WorkloadKind,
    objects::{
        EndpointSlice, ExpectedSources, Name, Node, Object, ObjectRef, Pod, ReplicaSet, Service,
        ServiceAccount, ServicePort, TargetPort,
    },
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, addresses: &[&str]) -> Pod {
    Pod {
        uid: format!("uid-{name}").into(),
        name: Name::new("mcp", name),
        workload: Workload { kind: WorkloadKind::Pod, name: name.into() },
        service_account: "default".into(),
        node: Some("node1".into()),
        host_network: false,
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        labels: Labels::from_iter([("app", "tools")]),
        named_ports: [("http".into(), 8080)].into(),
        annotations: Labels::default(),
        proxy: std::sync::Arc::default(),
    }
}

fn service(target: TargetPort) -> Service {
    Service {
        name: Name::new("mcp", "tools"),
        addresses: [ip("10.96.0.10")].into(),
        ports: [ServicePort { name: "http-mcp".into(), port: 80, target, app_protocol: None }].into(),
        selector: Some(Selector {
            match_labels: Labels::from_iter([("app", "tools")]),
            ..Selector::default()
        }),
    }
}

fn holder_name(store: &Store, address: &str) -> Option<String> {
    store.lookup(ip(address)).map(|holder| match holder {
        Holder::Pod(pod) => format!("pod {}", pod.name),
        Holder::Service(service) => format!("service {}", service.name),
        Holder::Node(node) => format!("node {node}"),
    })
}

#[test]
fn an_address_leads_to_its_holder() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("a", &["10.244.0.5", "fd00::5"])));
    store.apply(Object::Service(service(TargetPort::Number(8080))));
    store.apply(Object::Node(Node { name: "node1".into(), addresses: [ip("192.0.2.10")].into() }));
    assert_eq!(holder_name(&store, "10.244.0.5").as_deref(), Some("pod mcp/a"));
    assert_eq!(holder_name(&store, "fd00::5").as_deref(), Some("pod mcp/a"));
    assert_eq!(holder_name(&store, "10.96.0.10").as_deref(), Some("service mcp/tools"));
    assert_eq!(holder_name(&store, "192.0.2.10").as_deref(), Some("node node1"));
    assert_eq!(holder_name(&store, "10.244.0.6"), None);
}

#[test]
fn an_address_that_passed_on_stays_with_its_new_holder() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("old", &["10.244.0.5"])));
    store.apply(Object::Pod(pod("new", &["10.244.0.5"])));
    store.delete(&ObjectRef::Pod { uid: "uid-old".into() });
    assert_eq!(holder_name(&store, "10.244.0.5").as_deref(), Some("pod mcp/new"));
    store.delete(&ObjectRef::Pod { uid: "uid-new".into() });
    assert_eq!(holder_name(&store, "10.244.0.5"), None);
}

#[test]
fn a_pod_that_changes_its_address_leaves_the_old_one() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.apply(Object::Pod(pod("a", &["10.244.0.6"])));
    assert_eq!(holder_name(&store, "10.244.0.5"), None);
    assert_eq!(holder_name(&store, "10.244.0.6").as_deref(), Some("pod mcp/a"));
}

#[test]
fn the_address_of_a_host_network_pod_is_the_nodes() {
    let mut store = Store::default();
    store.apply(Object::Pod(Pod { host_network: true, ..pod("agent", &["192.0.2.10"]) }));
    assert_eq!(holder_name(&store, "192.0.2.10").as_deref(), Some("node node1"));
}

#[test]
fn local_addresses_are_the_local_nodes_and_outlive_a_reset() {
    let mut store = Store::default();
    store.set_local_node("node7");
    store.set_local_addresses([ip("10.244.0.1")]);
    store.reset([]);
    assert_eq!(holder_name(&store, "10.244.0.1").as_deref(), Some("node node7"));
}

#[test]
fn backends_follow_named_and_numbered_target_ports() {
    for target in [TargetPort::Number(8080), TargetPort::Name("http".into())] {
        let mut store = Store::default();
        let service = service(target);
        store.apply(Object::Pod(pod("b", &["10.244.0.6"])));
        store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
        store.apply(Object::Service(service.clone()));
        let names: Vec<_> = store
            .backends(&service, 80)
            .into_iter()
            .map(|Backend { pod, port }| (pod.name.to_string(), port))
            .collect();
        assert_eq!(names, [("mcp/a".to_owned(), 8080), ("mcp/b".to_owned(), 8080)]);
        assert!(store.backends(&service, 81).is_empty());
    }
}

#[test]
fn endpoint_slices_come_before_the_selector() {
    let mut store = Store::default();
    let service = service(TargetPort::Number(8080));
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.apply(Object::Pod(pod("b", &["10.244.0.6"])));
    store.apply(Object::EndpointSlice(EndpointSlice {
        name: Name::new("mcp", "tools-x"),
        service: "tools".into(),
        addresses: [ip("10.244.0.6")].into(),
        ports: [("http-mcp".into(), 9090)].into(),
    }));
    let backends = store.backends(&service, 80);
    assert_eq!(backends.len(), 1);
    assert_eq!((backends[0].pod.name.name.as_ref(), backends[0].port), ("b", 9090));
}

#[test]
fn a_known_replica_set_says_what_runs_its_pods() {
    let mut store = Store::default();
    store.apply(Object::ReplicaSet(ReplicaSet {
        name: Name::new("mcp", "odd-name"),
        workload: Workload { kind: WorkloadKind::Deployment, name: "tools".into() },
    }));
    let set = Workload { kind: WorkloadKind::ReplicaSet, name: "odd-name".into() };
    store.apply(Object::Pod(Pod { workload: set, ..pod("a", &["10.244.0.5"]) }));
    let Some(Holder::Pod(found)) = store.lookup(ip("10.244.0.5")) else { panic!("no pod") };
    assert_eq!(found.workload, Workload { kind: WorkloadKind::Deployment, name: "tools".into() });
}

#[test]
fn an_expected_account_that_does_not_exist_is_told() {
    let mut store = Store::default();
    store.apply(Object::ServiceAccount(ServiceAccount { name: Name::new("mcp", "gateway") }));
    store.apply(Object::ExpectedSources(ExpectedSources {
        name: Name::new("mcp", "tools"),
        selector: Selector::default(),
        service_accounts: [
            Name::new("mcp", "gateway"),
            Name::new("mcp", "gatewai"),
            Name::new("elsewhere", "unknown-namespace-proves-nothing"),
        ]
        .into(),
    }));
    assert_eq!(store.unknown_expected_accounts(), [(Name::new("mcp", "tools"), Name::new("mcp", "gatewai"))]);
}

#[test]
fn every_change_raises_the_generation() {
    let mut store = Store::default();
    let before = store.generation();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    assert!(store.generation() > before);
    let before = store.generation();
    store.set_local_addresses([ip("10.244.0.1")]);
    assert!(store.generation() > before);
    let before = store.generation();
    store.set_local_addresses([ip("10.244.0.1")]);
    assert_eq!(store.generation(), before, "nothing changed");
}
