//! Answers of daemons, read back.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use detector_ebpf::{
    counter::Counter,
    verdict::{Protocol, Verdict},
};

use super::{EdgeMap, call, daemon, flows, source};
use crate::{
    cluster::{TrustDomain, objects::Name},
    coverage::{PodCoverage, Reason},
    flows::{End, Flow, FlowId},
    migration::{Call, Client, Traffic},
    outputs::{
        api::{Api, NodeFacts, Page},
        lines::Lines,
        metrics::{Fill, KernelReading, Metrics},
    },
    testing,
};

const NODE: &[u8] = br#"{"node":"n1","observed_since":"2026-11-24T06:00:01.500Z","more":1}"#;
const PODS: &[u8] = br#"{"truncated":false,"pods":[{"namespace":"mcp","pod":"a","observed":true},{"namespace":"mcp","pod":"b","observed":false,"reason":"netkit"}]}"#;

fn map(entries: u32) -> String {
    format!(
        "plainsight_kernel_events_total{{reason=\"edge_map_full\"}} 0\nplainsight_map_entries{{map=\"edges\"}} {entries}\nplainsight_map_capacity{{map=\"edges\"}} 16384\n"
    )
}

#[test]
fn a_daemon_says_since_when_it_looks_and_at_which_pods() {
    let source = daemon(NODE, PODS, &map(4096)).unwrap();
    assert_eq!(source.name, "node n1");
    assert_eq!(source.since.unwrap().0, 1_795_500_001_500_000_000);
    assert_eq!(source.gap, None);
    let pods = source.pods.unwrap();
    assert_eq!(pods[&Name::new("mcp", "a")], None);
    assert_eq!(pods[&Name::new("mcp", "b")].as_deref(), Some("netkit"));
}

#[test]
fn a_daemon_that_may_have_forgotten_is_no_witness() {
    assert!(daemon(NODE, PODS, &map(4097)).unwrap().gap.unwrap().contains("forgets"));
    let full = map(10).replace("full\"} 0", "full\"} 3");
    assert!(daemon(NODE, PODS, &full).unwrap().gap.unwrap().contains("was full"));
    let many = String::from_utf8_lossy(PODS).replace("false,\"pods", "true,\"pods");
    assert!(daemon(NODE, many.as_bytes(), &map(0)).unwrap().gap.is_some());
}

#[test]
fn a_row_reads_back_as_it_was_written() {
    let flow = Flow {
        server: End::Pod {
            pod: testing::pod("mcp", "tools", &["10.244.0.3"]).into(),
            address: testing::ip("10.244.0.3"),
        },
        ..testing::flow("client")
    };
    let api = Api::new(Lines::new(TrustDomain::new(None)), "n1");
    let text = api.flows([(FlowId::of(1), &flow)], 1, Page::new(10)).unwrap();
    let read = flows(&text).unwrap();
    assert_eq!(read.next, None);
    let call = &read.calls[0];
    assert_eq!(
        (call.server_namespace.as_str(), call.server_workload.as_str(), call.port),
        ("mcp", "tools", Some(8000))
    );
    assert_eq!(call.traffic, Traffic::Plaintext("mcp".to_owned()));
    assert_eq!((call.connections, call.probe), (Some(3), false));
    assert_eq!(call.last_seen.unwrap().0, 1_795_500_001_234_000_000, "to the millisecond");
    assert!(
        matches!(&call.client, Client::Workload { workload, meshed: Some(false), .. } if workload == "client"),
        "{:?}",
        call.client
    );
    let two = [(FlowId::of(1), &flow), (FlowId::of(2), &flow)];
    let page = flows(&api.flows(two, 2, Page::new(1)).unwrap()).unwrap();
    assert_eq!((page.calls.len(), page.next), (1, Some(1)));
}

#[test]
fn an_answer_that_is_wrong_is_named_by_its_field() {
    let wrong = br#"{"truncated":false,"flows":[{"client":{"kind":"pod","address":"10.0.0.1"},"server":{"kind":"pod","address":"x"},"port":"80"}]}"#;
    let error = flows(wrong).unwrap_err().to_string();
    assert!(error.starts_with("/api/v1/flows: flows[0].port"), "{error}");
    assert!(flows(br#"{"truncated":true,"flows":[]}"#).is_err());
}

#[test]
fn what_is_at_hand_and_what_is_read_is_the_same() {
    let pod = |name: &str| Arc::new(testing::pod("mcp", name, &["10.244.0.3"]));
    let address = testing::ip("10.244.0.3");
    let ends = [
        End::Pod { pod: pod("tools"), address },
        End::Node { name: "n2".into(), address },
        End::Node { name: "".into(), address },
        End::Spoofed { owner: pod("tools"), sender: pod("thief"), address },
        End::External { address: testing::ip("203.0.113.9") },
        End::Unknown { address },
    ];
    let mut all = Vec::new();
    for client in &ends {
        for (verdict, protocol) in [
            (Verdict::Plaintext, Protocol::Mcp),
            (Verdict::Plaintext, Protocol::None),
            (Verdict::MeshMtls, Protocol::None),
            (Verdict::Tls, Protocol::None),
            (Verdict::Opaque, Protocol::None),
            (Verdict::Undecided, Protocol::None),
        ] {
            for server in &ends {
                let (client, server) = (client.clone(), server.clone());
                all.push(Flow { client, server, verdict, protocol, ..testing::flow("client") });
            }
        }
    }
    let api = Api::new(Lines::new(TrustDomain::new(None)), "n1");
    let rows = || all.iter().zip(1..).map(|(flow, number)| (FlowId::of(number), flow));
    let read = flows(&api.flows(rows(), all.len(), Page::new(Page::ROWS)).unwrap()).unwrap().calls;
    let at_hand: Vec<Call> = all.iter().filter_map(|flow| call(api.flow_row(flow))).collect();
    assert_eq!(read, at_hand);
    assert!(read.len() > 20 && read.len() < all.len(), "{}", read.len());

    let since = UNIX_EPOCH + Duration::new(1_795_500_001, 234_567_890);
    let facts = NodeFacts { started: since, observed_since: Some(since), waiting_for: vec![], pods: vec![] };
    let covered =
        |reason| PodCoverage { pod: Name::new("mcp", "a"), interface: Some("veth1".to_owned()), reason };
    for pods in [vec![covered(None), covered(Some(Reason::HostNetwork))], vec![covered(None); Page::ROWS + 1]]
    {
        for (entries, full) in [(4096, 0), (4097, 0), (10, 3)] {
            let mut counters = [0; Counter::COUNT as usize];
            counters[Counter::EdgeMapFull as usize] = full;
            let reading = KernelReading {
                counters: Some(counters),
                maps: vec![("edges", Fill { entries, capacity: 16_384 })],
                ..KernelReading::default()
            };
            let metrics = Metrics::new(
                {
                    let reading = reading.clone();
                    move || reading.clone()
                },
                Arc::default(),
            );
            let metrics = String::from_utf8(metrics.unwrap().render().unwrap()).unwrap();
            let (node, coverage) = (api.node(facts.clone()).unwrap(), api.coverage(&pods, vec![]).unwrap());
            let read = daemon(&node, &coverage, &metrics).unwrap();
            let at_hand = source(api.node_row(Some(since)), Api::pod_rows(&pods), EdgeMap::from(&reading));
            assert_eq!(read, at_hand);
            assert_eq!(read.gap.is_some(), pods.len() > Page::ROWS || entries > 4096 || full > 0);
        }
    }
}
