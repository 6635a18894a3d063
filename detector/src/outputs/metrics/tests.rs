//! The metrics, as a scrape shows them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::Ordering,
};

use detector_ebpf::{counter::Counter, evidence::Evidence};

use super::{Fill, Hook, KernelReading, Metrics};
use crate::{
    cluster::{
        Census, SharedStore, Store, TrustDomain,
        kubernetes::{Access, KubernetesSource, Timing},
        objects::{Name, Object},
    },
    coverage::{PodCoverage, Reason},
    findings::{FindingId, Severity},
    flows::{Clock, Flows},
    testing,
};

fn reading() -> KernelReading {
    let mut counters = [0; Counter::COUNT as usize];
    counters[Counter::RingFull as usize] = 7;
    KernelReading { counters: Some(counters), maps: vec![("flows", Fill { entries: 3, capacity: 64 })] }
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().unwrap()).unwrap()
}

#[test]
fn every_metric_is_there_under_its_name() {
    let metrics = Metrics::new(reading, Default::default()).unwrap();
    let mut store = Store::default();
    store.apply(Object::Pod(testing::pod("mcp", "client", &["10.244.0.2"])));
    store.apply(Object::Pod(testing::pod("mcp", "tools", &["10.244.0.3"])));
    let mut flows = Flows::new(Clock::default());
    let edge = testing::edge("10.244.0.2", "10.244.0.3", 8000);
    flows.event(&store, &edge, &testing::value(2, 0, Evidence::HTTP_REQUEST), 1, 0);
    metrics.flow(&flows.settle(&store, Flows::HOLD)[0]);
    metrics.finding(FindingId::PlaintextMcp, Severity::High);
    metrics.active(&HashMap::from([((FindingId::PlaintextMcp, Severity::High), 1)]));
    metrics.interface(Hook::Tcx, true);
    let access = Access::Kubeconfig { path: None, context: None };
    let source =
        KubernetesSource::new(access, SharedStore::default(), TrustDomain::new(None), Timing::default());
    metrics.watches(source.health()).unwrap();
    metrics.coverage(&[PodCoverage {
        pod: Name::new("mcp", "agent"),
        interface: None,
        reason: Some(Reason::HostNetwork),
    }]);
    metrics.identities(Census { pods: 2, ..Census::default() });
    let text = text(&metrics);
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        [
            "plainsight_attachments_restored_total",
            "plainsight_build_info",
            "plainsight_connections_total",
            "plainsight_findings_active",
            "plainsight_findings_total",
            "plainsight_flows",
            "plainsight_forgotten_total",
            "plainsight_identities",
            "plainsight_interface_attach_failures_total",
            "plainsight_interfaces_attached",
            "plainsight_kernel_events_total",
            "plainsight_kubernetes_lists_total",
            "plainsight_kubernetes_stale_seconds",
            "plainsight_kubernetes_unreadable_objects_total",
            "plainsight_kubernetes_watch_state",
            "plainsight_lines_lost_total",
            "plainsight_manifest_errors",
            "plainsight_map_capacity",
            "plainsight_map_entries",
            "plainsight_node_pods",
        ]
    );
    for line in [
        "plainsight_connections_total{destination_kind=\"pod\",destination_namespace=\"mcp\",\
         destination_service_account=\"tools\",destination_workload=\"tools\",protocol=\"http1\",\
         source_kind=\"pod\",source_namespace=\"mcp\",source_service_account=\"client\",\
         source_workload=\"client\",verdict=\"plaintext\"} 2",
        "plainsight_findings_total{id=\"plaintext-mcp\",severity=\"high\"} 1",
        "plainsight_findings_total{id=\"plaintext-mcp\",severity=\"low\"} 0",
        "plainsight_findings_active{id=\"plaintext-mcp\",severity=\"high\"} 1",
        "plainsight_kernel_events_total{reason=\"ring_full\"} 7",
        "plainsight_kubernetes_watch_state{resource=\"pods\",state=\"starting\"} 1",
        "plainsight_node_pods{coverage=\"host-network\"} 1",
        "plainsight_node_pods{coverage=\"observed\"} 0",
        "plainsight_map_entries{map=\"flows\"} 3",
        "plainsight_interfaces_attached{hook=\"tcx\"} 1",
        "plainsight_identities{kind=\"pod\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn counters_that_cannot_be_read_are_left_out_and_not_zero() {
    let metrics = Metrics::new(KernelReading::default, Default::default()).unwrap();
    assert!(!text(&metrics).contains("plainsight_kernel_events_total{"));
}

#[test]
fn lost_lines_are_counted_at_the_scrape() {
    let lost = std::sync::Arc::<std::sync::atomic::AtomicU64>::default();
    let metrics = Metrics::new(reading, std::sync::Arc::clone(&lost)).unwrap();
    lost.store(5, Ordering::Relaxed);
    assert!(text(&metrics).contains("plainsight_lines_lost_total 5\n"));
}
