//! The metrics, as a scrape shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use detector_ebpf::{counter::Counter, edge::EdgeKey, evidence::Evidence};

use super::{FAMILIES, Family, Fill, Hook, KernelReading, Metrics, Runs};
use crate::{
    cluster::{
        Census, SharedStore, Store, TrustDomain,
        kubernetes::{Access, KubernetesSource, ResourceState, Timing},
        objects::{Name, Object},
    },
    coverage::{PodCoverage, Reason},
    findings::{FindingId, Severity, Standing},
    flows::{Clock, Flow, Flows},
    testing,
};

fn reading() -> KernelReading {
    let mut counters = [0; Counter::COUNT as usize];
    counters[Counter::RingFull as usize] = 7;
    KernelReading {
        counters: Some(counters),
        maps: vec![("flows", Fill { entries: 3, capacity: 64 })],
        programs: vec![("detect_ingress", Runs { time: Duration::from_millis(1500), count: 40 })],
    }
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().unwrap()).unwrap()
}

/// Metrics of which each has something to say.
fn filled() -> Metrics {
    let metrics = Metrics::new(reading, Default::default()).unwrap();
    let mut store = Store::default();
    store.apply(Object::Pod(testing::pod("mcp", "client", &["10.244.0.2"])));
    store.apply(Object::Pod(testing::pod("mcp", "tools", &["10.244.0.3"])));
    let mut flows = Flows::new(Clock { offset_ns: 1_700_000_000_000_000_000 });
    let edge = testing::edge("10.244.0.2", "10.244.0.3", 8000);
    let edge = EdgeKey { flags: edge.flags | EdgeKey::CREDENTIALS, ..edge };
    let evidence = Evidence::HTTP_REQUEST.or(Evidence::AUTH_BEARER);
    flows.event(&store, &edge, &testing::value(2, 0, evidence), 1, 0);
    let update = flows.settle(&store, Flows::HOLD).remove(0);
    metrics.flow(&update);
    metrics.finding(FindingId::PlaintextMcp, Severity::High);
    let (client, server) = (&update.flow.client, &update.flow.server);
    let standing = |severity| Standing { id: FindingId::PlaintextMcp, severity, client, server };
    metrics.standing(&[standing(Severity::High), standing(Severity::High), standing(Severity::Info)]);
    metrics.interface(Hook::Tcx, true);
    let access = Access::Kubeconfig { path: None, context: None };
    let source =
        KubernetesSource::new(access, SharedStore::default(), TrustDomain::new(None), Timing::default());
    metrics.watches(source.health()).unwrap();
    let _writes = metrics.writes().unwrap();
    metrics.coverage(&[PodCoverage {
        pod: Name::new("mcp", "agent"),
        interface: None,
        reason: Some(Reason::HostNetwork),
    }]);
    metrics.identities(Census { pods: 2, ..Census::default() });
    metrics
}

/// The families of a scrape: name, type, help, and the labels' names of its series.
fn families(text: &str) -> BTreeMap<String, (String, String, BTreeSet<String>)> {
    let mut families: BTreeMap<String, (String, String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().1 = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else if let Some((name, rest)) = line.split_once('{') {
            let labels = rest.rsplit_once('}').unwrap().0.split(',').filter(|label| !label.is_empty());
            let names = labels.map(|label| label.split_once('=').unwrap().0.to_owned());
            families.entry(name.to_owned()).or_default().2.extend(names);
        }
    }
    families
}

#[test]
fn what_is_exported_is_what_the_catalogue_says_with_type_labels_and_help() {
    let exported = families(&text(&filled()));
    // The watch that has not begun yet has no failure.
    let silent = "plainsight_kubernetes_failures_total";
    let catalogue: BTreeMap<String, (String, String, BTreeSet<String>)> = FAMILIES
        .iter()
        .filter(|family| family.name != silent)
        .map(|Family { name, kind, labels, help, .. }| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            ((*name).to_owned(), (kind.as_str().to_owned(), (*help).to_owned(), labels))
        })
        .collect();
    assert_eq!(exported, catalogue);
}

#[test]
fn the_reference_page_says_what_the_catalogue_says() {
    let rows: String = FAMILIES
        .iter()
        .map(|Family { name, kind, labels, help, capped }| {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let cap = if *capped { "yes" } else { "" };
            format!("| `{name}` | {} | {} | {cap} | {help} |\n", kind.as_str(), labels.join(" "))
        })
        .collect();
    let page = include_str!("../../../../docs/metrics.md");
    assert!(page.contains(&rows), "docs/metrics.md must have these rows:\n{rows}");
    let listed =
        page.lines().filter(|line| line.starts_with("| `plainsight_") || line.starts_with("| `process_"));
    assert_eq!(listed.count(), FAMILIES.len(), "the page has no row of another metric");
    for (label, values) in [
        ("reason", Counter::ALL.iter().map(|counter| counter.name()).collect::<Vec<_>>()),
        ("coverage", Reason::ALL.iter().map(|reason| reason.as_str()).chain(["observed"]).collect()),
        ("state", ResourceState::ALL.iter().map(|state| state.as_str()).collect()),
        ("severity", Severity::ALL.iter().map(|severity| severity.as_str()).collect()),
    ] {
        for value in values {
            assert!(page.contains(&format!("`{value}`")), "docs/metrics.md lacks {label} `{value}`");
        }
    }
}

#[test]
fn a_scrape_says_who_does_what() {
    let text = text(&filled());
    for line in [
        "plainsight_connections_total{destination_kind=\"pod\",destination_namespace=\"mcp\",\
         destination_service_account=\"tools\",destination_workload=\"tools\",protocol=\"http1\",\
         source_kind=\"pod\",source_namespace=\"mcp\",source_service_account=\"client\",\
         source_workload=\"client\",verdict=\"plaintext\"} 2",
        "plainsight_connections_with_credentials_total{destination_kind=\"pod\",destination_namespace=\"mcp\",\
         destination_service_account=\"tools\",destination_workload=\"tools\",protocol=\"http1\",\
         source_kind=\"pod\",source_namespace=\"mcp\",source_service_account=\"client\",\
         source_workload=\"client\"} 2",
        "plainsight_last_plaintext_timestamp_seconds{destination_namespace=\"mcp\",\
         destination_workload=\"tools\"} 1700000000",
        "plainsight_workload_findings_active{destination_kind=\"pod\",destination_namespace=\"mcp\",\
         destination_workload=\"tools\",id=\"plaintext-mcp\",severity=\"high\",source_kind=\"pod\",\
         source_namespace=\"mcp\",source_workload=\"client\"} 2",
        "plainsight_findings_active{id=\"plaintext-mcp\",severity=\"info\"} 1",
        "plainsight_series_overflow_total{metric=\"plainsight_connections_total\"} 0",
        "plainsight_program_run_seconds_total{program=\"detect_ingress\"} 1.5",
        "plainsight_program_runs_total{program=\"detect_ingress\"} 40",
        "plainsight_findings_total{id=\"plaintext-mcp\",severity=\"high\"} 1",
        "plainsight_findings_total{id=\"plaintext-mcp\",severity=\"low\"} 0",
        "plainsight_findings_active{id=\"plaintext-mcp\",severity=\"high\"} 2",
        "plainsight_kernel_events_total{reason=\"ring_full\"} 7",
        "plainsight_kubernetes_watch_state{resource=\"pods\",state=\"starting\"} 1",
        "plainsight_kubernetes_writes_total{kind=\"event\"} 0",
        "plainsight_kubernetes_writes_suppressed_total{kind=\"event\",reason=\"pod-rate\"} 0",
        "plainsight_node_pods{coverage=\"host-network\"} 1",
        "plainsight_node_pods{coverage=\"observed\"} 0",
        "plainsight_map_entries{map=\"flows\"} 3",
        "plainsight_interfaces_attached{hook=\"tcx\"} 1",
        "plainsight_identities{kind=\"pod\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let info = text.lines().find(|line| {
        line.contains("findings_active") && line.contains("severity=\"info\"") && line.contains("source_")
    });
    assert_eq!(info, None, "what is only worth knowing has no series of its own");
}

#[test]
fn series_of_a_workload_that_is_gone_go_after_a_while_and_others_stay() {
    let metrics = filled();
    let there = |metrics: &Metrics| {
        [
            "plainsight_connections_total{",
            "plainsight_connections_with_credentials_total{",
            "plainsight_last_plaintext_timestamp_seconds{",
        ]
        .map(|name| text(metrics).contains(name))
    };
    let client = Arc::new(testing::pod("mcp", "client", &[]));
    let tools = Arc::new(testing::pod("mcp", "tools", &[]));
    for _ in 0..30 {
        metrics.sweep([&client, &tools].into_iter());
    }
    assert_eq!(there(&metrics), [true; 3], "both are there, however quiet");
    metrics.sweep([&client].into_iter());
    assert_eq!(there(&metrics), [false; 3]);
}

#[test]
fn no_label_holds_an_address_or_a_port() {
    let metrics = Metrics::new(reading, Default::default()).unwrap();
    let mut flows = Flows::new(Clock::default());
    let store = Store::default();
    for (client, server) in [("203.0.113.9", "10.244.0.3"), ("10.244.0.2", "198.51.100.7")] {
        let edge = testing::edge(client, server, 54_321);
        flows.event(&store, &edge, &testing::value(1, 0, Evidence::HTTP_REQUEST), 1, 0);
    }
    let updates = flows.settle(&store, 10 * Flows::WAIT);
    assert_eq!(updates.len(), 2);
    for update in &updates {
        metrics.flow(update);
        let Flow { client, server, .. } = &update.flow;
        metrics.standing(&[Standing {
            id: FindingId::PlaintextMcp,
            severity: Severity::High,
            client,
            server,
        }]);
    }
    let text = text(&metrics);
    for part in ["203.0.113", "198.51.100", "10.244.0", "54321"] {
        assert!(!text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn counters_that_cannot_be_read_are_left_out_and_not_zero() {
    let metrics = Metrics::new(KernelReading::default, Default::default()).unwrap();
    assert!(!text(&metrics).contains("plainsight_kernel_events_total{"));
}

#[test]
fn lost_lines_are_counted_at_the_scrape() {
    let lost = Arc::<AtomicU64>::default();
    let metrics = Metrics::new(reading, Arc::clone(&lost)).unwrap();
    lost.store(5, Ordering::Relaxed);
    assert!(text(&metrics).contains("plainsight_lines_lost_total 5\n"));
}
