use std::{net::IpAddr, sync::Arc};

use super::{Backend, Holder, Seen, Store};
use crate::cluster::{
    Labels, Selector, Workload, WorkloadKind,
    objects::{
        EndpointSlice, ExpectedSources, Kind, Name, Node, Object, ObjectRef, Owner, OwnerKind, Pod,
        PodTemplate, Service, ServiceAccount, ServicePort, TargetPort,
    },
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, addresses: &[&str]) -> Pod {
    Pod {
        uid: format!("uid-{name}").into(),
        name: Name::new("mcp", name),
        node: Some("node1".into()),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        template: Arc::new(PodTemplate {
            workload: Workload { kind: WorkloadKind::Pod, name: name.into() },
            service_account: "default".into(),
            host_network: false,
            labels: Labels::from_iter([("app", "tools")]),
            annotations: Labels::default(),
            named_ports: [("http".into(), 8080)].into(),
            proxy: Arc::default(),
        }),
    }
}

fn with_template(mut pod: Pod, change: impl FnOnce(&mut PodTemplate)) -> Pod {
    change(Arc::make_mut(&mut pod.template));
    pod
}

fn service(target: TargetPort) -> Service {
    Service {
        name: Name::new("mcp", "tools"),
        addresses: [ip("10.96.0.10")].into(),
        ports: [ServicePort {
            name: "http-mcp".into(),
            port: 80,
            node_port: Some(30_080),
            target,
            app_protocol: None,
        }]
        .into(),
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
    store.apply(Object::Pod(with_template(pod("agent", &["192.0.2.10"]), |template| {
        template.host_network = true
    })));
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
fn an_owner_says_what_runs_its_pods_be_it_known_before_or_after() {
    let deployment = Workload { kind: WorkloadKind::Deployment, name: "tools".into() };
    let owner = Object::Owner(Owner {
        kind: OwnerKind::ReplicaSet,
        name: Name::new("mcp", "odd-name"),
        workload: Some(deployment.clone()),
    });
    let set = Workload { kind: WorkloadKind::ReplicaSet, name: "odd-name".into() };
    let owned = with_template(pod("a", &["10.244.0.5"]), |template| template.workload = set);
    for objects in [[owner.clone(), Object::Pod(owned.clone())], [Object::Pod(owned), owner]] {
        let mut store = Store::default();
        objects.into_iter().for_each(|object| store.apply(object));
        let Some(Holder::Pod(found)) = store.lookup(ip("10.244.0.5")) else { panic!("no pod") };
        assert_eq!(found.workload, deployment);
    }
}

#[test]
fn a_node_port_leads_to_its_service_on_every_node() {
    let mut store = Store::default();
    let service = service(TargetPort::Number(8080));
    store.apply(Object::Service(service.clone()));
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.apply(Object::Node(Node { name: "node2".into(), addresses: [ip("192.0.2.11")].into() }));
    let holder = store.lookup_server(ip("192.0.2.11"), 30_080);
    assert!(matches!(holder, Some(Holder::Service(found)) if found.name == service.name));
    assert!(matches!(store.lookup_server(ip("192.0.2.11"), 22), Some(Holder::Node(_))));
    assert!(store.lookup_server(ip("203.0.113.1"), 30_080).is_none());
    let backends = store.backends(&service, 30_080);
    assert_eq!((backends.len(), backends[0].port), (1, 8080));
    store.delete(&ObjectRef::Service(service.name));
    assert!(matches!(store.lookup_server(ip("192.0.2.11"), 30_080), Some(Holder::Node(_))));
}

#[test]
fn what_a_list_has_not_shown_is_forgotten() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.apply(Object::Pod(pod("b", &["10.244.0.6"])));
    store.apply(Object::Service(service(TargetPort::Number(8080))));
    let mut seen = Seen::default();
    seen.note(&Object::Pod(pod("b", &[])).to_ref());
    store.retain(Kind::Pod, &seen);
    assert_eq!(holder_name(&store, "10.244.0.5"), None);
    assert_eq!(holder_name(&store, "10.244.0.6").as_deref(), Some("pod mcp/b"));
    assert_eq!(store.census().services, 1, "of another kind");
}

#[test]
fn pods_of_one_workload_share_what_is_equal() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.apply(Object::Pod(with_template(pod("b", &["10.244.0.6"]), |template| {
        template.workload.name = "a".into();
    })));
    let (a, b) = (store.pod("uid-a".into()).unwrap(), store.pod("uid-b".into()).unwrap());
    assert!(Arc::ptr_eq(&a.template, &b.template));
    assert!(Arc::ptr_eq(&a.name.namespace, &b.name.namespace));
}

#[test]
fn a_pod_that_comes_again_unchanged_is_no_news() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    let before = store.generation();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.delete(&ObjectRef::Pod { uid: "uid-unknown".into() });
    assert_eq!(store.generation(), before);
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

#[test]
fn an_address_on_another_pods_interface_is_spoofed_and_on_a_doubt_it_is_not() {
    let mut store = Store::default();
    store.apply(Object::Pod(pod("a", &["10.244.0.5"])));
    store.apply(Object::Pod(pod("b", &["10.244.0.6", "fd00::6"])));
    let links = |links: &[(u32, &[&str])]| {
        links
            .iter()
            .map(|(link, addresses)| (*link, addresses.iter().map(|address| ip(address)).collect()))
            .collect()
    };
    store.set_links(links(&[(7, &["10.244.0.5"]), (8, &["10.244.0.6"])]));
    let spoof = store.spoof(ip("10.244.0.5"), 8).unwrap();
    assert_eq!((spoof.owner.name.name.as_ref(), spoof.sender.name.name.as_ref()), ("a", "b"));
    assert_eq!(store.spoof(ip("10.244.0.5"), 7), None, "its own");
    assert_eq!(store.spoof(ip("10.244.0.5"), 9), None, "an interface that nothing is known of");
    assert_eq!(store.spoof(ip("10.244.0.9"), 8), None, "an address that nothing leads to");
    store.set_links(links(&[(8, &["10.244.0.6"]), (9, &["fd00::6"])]));
    assert_eq!(store.spoof(ip("fd00::6"), 8), None, "a pod with two interfaces");
}
