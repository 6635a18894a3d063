//! Holds the reading of lists to its bound: what a page or a line takes, however many of them there are.
//!
//! What is counted are the allocations of the source's own threads; the double's are its own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicIsize, Ordering},
    time::Duration,
};

use detector::{
    cluster::{
        SharedStore, TrustDomain,
        kubernetes::{Access, KubernetesSource, Timing},
    },
    readiness::Readiness,
};
use detector_tests::{apiserver::ApiServer, wait};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Counting;

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    // A thread that ends has no such value any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

// SAFETY: hands everything to the system's allocator; what is counted are plain numbers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    // The system's own moves pages of large blocks and copies nothing.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PODS: usize = 6_000;

/// What a live pod weighs with its status and managed fields.
const POD_BYTES: usize = 10_000;

/// A page of 250 pods, twice while its buffer grows, and the buffers of all connections.
const MOST: isize = 8 * 1024 * 1024;

fn pod(number: usize) -> Value {
    let address = format!("10.1.{}.{}", number / 250, number % 250);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("p{number}"), "namespace": "mcp", "labels": { "app": "p" } },
        "spec": { "nodeName": "node1", "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "podIPs": [{ "ip": address }], "message": "x".repeat(POD_BYTES) },
    })
}

#[test]
fn a_list_takes_the_memory_of_a_page_or_a_line_and_not_of_the_whole() {
    for streaming in [true, false] {
        let server = ApiServer::start().unwrap();
        server.streaming_lists(streaming);
        server.apply_all((0..PODS).map(pod));
        let folder = tempfile::tempdir().unwrap();
        let path = Some(server.kubeconfig(folder.path()).unwrap());
        LIVE.store(0, Ordering::Relaxed);
        PEAK.store(0, Ordering::Relaxed);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(|| COUNTED.set(true))
            .enable_all()
            .build()
            .unwrap();
        let store = SharedStore::default();
        let access = Access::Kubeconfig { path, context: None };
        let source = KubernetesSource::new(access, store.clone(), TrustDomain::new(None), Timing::default());
        let readiness = Readiness::default();
        let cancel = CancellationToken::new();
        let task = runtime.spawn(source.run(cancel.clone(), readiness.block("identities")));
        wait::until("whole lists", Duration::from_secs(300), || {
            Ok(readiness.pending().is_empty().then_some(()))
        })
        .unwrap();
        assert_eq!(store.read().census().pods, PODS);
        let (peak, live) = (PEAK.load(Ordering::Relaxed), LIVE.load(Ordering::Relaxed));
        println!("streaming {streaming}: {peak} bytes at the peak, {live} of them stay");
        // The counting counts: pods are held by now.
        assert!(live > (PODS * 100).cast_signed(), "{live} bytes stay");
        assert!(peak - live < MOST, "{peak} bytes at the peak, {live} of them stay");
        cancel.cancel();
        runtime.block_on(task).unwrap();
    }
}
