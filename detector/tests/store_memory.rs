//! Holds the identity store to its bar: 150,000 pods in 64 MiB, and look-ups that do not allocate.
//!
//! A process of its own, for what is measured is the process. Pods are as a large cluster has them: five of a
//! workload, a name of some forty characters each, addresses of both families, a mesh's annotations.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use detector::cluster::{Holder, Store};
use serde_json::{Value, json};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator; the count is a plain number of the thread's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PODS: u32 = 150_000;
const REPLICAS: u32 = 5;
const NODES: u32 = 5_000;
const BAR_KIB: u64 = 64 * 1024;

fn addresses(number: u32) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::from(0x0a00_0000 + number);
    let v6 = Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(number));
    [v4.into(), v6.into()]
}

/// A pod as the API server gives it.
fn pod(number: u32) -> Value {
    let workload = number / REPLICAS;
    let namespace = format!("team-{:03}-production", workload % 600);
    let app = format!("checkout-service-{workload:05}");
    let hash = format!("{:09x}", u64::from(workload) * 7_919);
    let [v4, v6] = addresses(number);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{app}-{hash}-{number:05}"),
            "namespace": namespace,
            "uid": format!("845b32f9-3864-408b-9aff-{number:012x}"),
            "labels": {
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/part-of": "shop",
                "pod-template-hash": hash,
                "security.istio.io/tlsMode": "istio",
            },
            "annotations": { "sidecar.istio.io/status": "{\"containers\":[\"istio-proxy\"]}" },
            "ownerReferences": [{ "kind": "ReplicaSet", "name": format!("{app}-{hash}"), "controller": true }],
        },
        "spec": {
            "serviceAccountName": app,
            "nodeName": format!("ip-10-0-{}-{}.eu-central-1.compute.internal", number % NODES / 256, number % 256),
            "containers": [
                { "name": "app", "ports": [{ "name": "http", "containerPort": 8080 }] },
                { "name": "istio-proxy" },
            ],
        },
        "status": { "phase": "Running", "podIPs": [{ "ip": v4 }, { "ip": v6 }] },
    })
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("every process has VmRSS");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("VmRSS is a number")
}

#[test]
fn a_large_clusters_pods_fit_and_look_ups_do_not_allocate() {
    let mut store = Store::default();
    let before = resident_kib();
    for number in 0..PODS {
        let object = detector::cluster::decode("v1", "Pod", pod(number)).unwrap().unwrap();
        store.apply(object);
    }
    let after = resident_kib();
    println!("{PODS} pods: {} KiB resident, {} KiB of them the store's", after, after - before);
    assert_eq!(store.census().pods, PODS as usize);
    assert!(after < BAR_KIB, "{after} KiB resident");

    let before = ALLOCATIONS.with(Cell::get);
    let mut found = 0;
    for number in (0..PODS).step_by(7) {
        for address in addresses(number) {
            found += u32::from(matches!(store.lookup(address), Some(Holder::Pod(_))));
        }
    }
    let missed = store.lookup(Ipv4Addr::new(203, 0, 113, 1).into());
    assert_eq!(ALLOCATIONS.with(Cell::get), before, "a look-up allocated");
    assert_eq!((found, missed.is_none()), (PODS.div_ceil(7) * 2, true));
}
