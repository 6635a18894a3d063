//! The same hostile names through every output: none commands a terminal, ends a line, or is lost to a reader of
//! JSON.

use std::sync::Arc;

use detector_ebpf::evidence::Evidence;
use serde_json::Value;

use super::{
    api::{Api, Page},
    audit::{Format, write},
    explain,
    kubernetes::{Events, Flavour, Reports, Subject},
    lines::Lines,
    metrics::{KernelReading, Metrics},
    migration,
};
use crate::{
    audit::{CallerView, Explanation, Member, PortView, Posture, Report, Subject as About},
    cluster::{
        Labels, Store, TrustDomain, Workload, WorkloadKind,
        objects::{Name, Object, Pod, PodTemplate},
    },
    coverage::PodCoverage,
    findings::{Finding, FindingId, Severity},
    flows::{Clock, End, Flow, FlowId, Flows, TlsNames},
    migration::{Answer as Migrates, Assessment, Break, NamespaceAnswer, Report as Readiness},
    policy::{Answer, Kind, ObjectKey, Ruling, Unbound},
    printable::{is_hostile, printable},
    testing::{self, HOSTILE},
};

fn pod(name: &str) -> Pod {
    let pod = testing::pod("mcp", name, &["10.244.0.2"]);
    let template = PodTemplate {
        workload: Workload { kind: WorkloadKind::Deployment, name: name.into() },
        service_account: name.into(),
        labels: Labels::from_iter([("app", name)]),
        ..PodTemplate::clone(&pod.template)
    };
    Pod { name: Name::new(name, name), node: Some("node1".into()), template: template.into(), ..pod }
}

/// A flow whose every name is this one, but for the server's pod: of that a report may be written.
fn flow(name: &str) -> Flow {
    let mut flow = testing::mcp_flow();
    flow.client = End::Pod { pod: Arc::new(pod(name)), address: testing::ip("10.244.0.2") };
    let said: std::collections::BTreeSet<String> = [name.to_owned()].into();
    flow.tls = TlsNames { server_names: said.clone(), protocols: said };
    flow
}

fn finding(name: &str) -> Finding {
    Finding {
        why: format!("pod {name} calls"),
        fix: format!("# {name}\nkind: Thing\n"),
        decided_by: Some(name.to_owned()),
        ..testing::finding(flow(name))
    }
}

/// Text of so many lines in which nothing is hostile.
#[track_caller]
fn harmless(what: &str, text: &str, lines: usize) {
    let hostile: Vec<char> = text.chars().filter(|c| *c != '\n' && is_hostile(*c)).collect();
    assert!(hostile.is_empty(), "{what}: {hostile:?} in {text:?}");
    assert_eq!(text.matches('\n').count(), lines, "{what}: a forged line in {text:?}");
}

#[test]
fn lines_of_json_are_lines_and_give_the_name_back() {
    let lines = Lines::new(TrustDomain::new(None));
    for name in HOSTILE {
        for line in [lines.finding(&finding(name)).unwrap(), lines.flow(&flow(name)).unwrap()] {
            let line = String::from_utf8(line).unwrap();
            harmless("a line", &line, 1);
            let read: Value = serde_json::from_str(&line).unwrap();
            for member in ["pod", "namespace", "service_account"] {
                assert_eq!(read["client"][member], name);
            }
            assert_eq!(read["sni"][0], name);
        }
    }
}

#[test]
fn labels_of_metrics_command_no_terminal() {
    let scrape = |name: &str| {
        let metrics = Metrics::new(KernelReading::default, Default::default()).unwrap();
        let mut store = Store::default();
        store.apply(Object::Pod(pod(name)));
        store.apply(Object::Pod(testing::pod("mcp", "tools", &["10.244.0.3"])));
        let mut flows = Flows::new(Clock::default());
        let edge = testing::edge("10.244.0.2", "10.244.0.3", 8000);
        flows.event(&store, &edge, &testing::value(1, 0, Evidence::HTTP_REQUEST), 1, 0);
        for update in flows.settle(&store, Flows::HOLD) {
            metrics.flow(&update);
        }
        String::from_utf8(metrics.render().unwrap()).unwrap()
    };
    let lines = scrape("tame").matches('\n').count();
    for name in HOSTILE {
        let text = scrape(name);
        harmless("metrics", &text, lines);
        assert!(text.contains("plainsight_connections_total{"), "{text}");
    }
}

#[test]
fn events_and_reports_are_escaped_and_of_a_hostile_pod_there_are_none() {
    for name in HOSTILE {
        let mut finding = finding(name);
        let subject = Subject::of(&finding, "node1").unwrap();
        let mut events = Events::new("node1", 0);
        events.found(FlowId::of(1), 1, &finding, &subject, 0).unwrap();
        let event = events.next(Events::HOLD).unwrap();
        let event: Value = serde_json::from_slice(&event.body).unwrap();
        harmless("a note", event["note"].as_str().unwrap(), 0);
        assert_eq!(event.get("related"), None, "no object has that name");
        let mut reports = Reports::new("node1", 0);
        reports.found(FlowId::of(1), &[(&finding, subject)], 0);
        let report = reports.next(Flavour::WgPolicy, Reports::GATHER).unwrap();
        let report: Value = serde_json::from_slice(&report.body.unwrap()).unwrap();
        let result = &report["results"][0];
        harmless("a message", result["message"].as_str().unwrap(), 0);
        for property in ["client", "server", "decidedBy"] {
            harmless(property, result["properties"][property].as_str().unwrap(), 0);
        }
        let fix = result["properties"]["fix"].as_str().unwrap();
        harmless("a fix", fix, finding.fix.matches('\n').count());
        // No API server would admit it, so it stands in no path.
        finding.flow.server = End::Pod { pod: Arc::new(pod(name)), address: testing::ip("10.244.0.3") };
        assert_eq!(Subject::of(&finding, "node1"), None, "{name:?}");
    }
}

#[test]
fn an_audit_is_escaped_in_every_form() {
    for name in HOSTILE {
        let posture = Posture {
            id: FindingId::PortExempt,
            severity: Severity::High,
            subject: About {
                namespace: name.to_owned(),
                kind: name.to_owned(),
                name: name.to_owned(),
                port: Some(8000),
            },
            mcp: true,
            why: name.to_owned(),
            fix: "# Do this.\nkind: Thing\n".to_owned(),
            decided_by: Some(name.to_owned()),
        };
        let report = Report { findings: vec![posture], workloads: 1, mcp: 1, namespaces: 1 };
        harmless("a table", &write(&report, 0, Format::Table), 3);
        let markdown = write(&report, 0, Format::Markdown);
        harmless("Markdown", &markdown, 16);
        assert!(!markdown.contains('<') || !name.contains('<'), "{markdown}");
        for format in [Format::Json, Format::Sarif] {
            let text = write(&report, 0, format);
            harmless("JSON", &text, text.matches('\n').count());
            let read: Value = serde_json::from_str(&text).unwrap();
            match format {
                Format::Sarif => {
                    let message = read["runs"][0]["results"][0]["message"]["text"].as_str().unwrap();
                    harmless("a message of SARIF", message, 4);
                }
                _ => assert_eq!(read["findings"][0]["name"], name),
            }
        }
    }
}

#[test]
fn an_explanation_is_escaped() {
    for name in HOSTILE {
        let key = ObjectKey { kind: Kind::AuthorizationPolicy, name: Name::new(name, name) };
        let ruling = Ruling::new(Answer::Denied, key.field(name.to_owned()));
        let explanation = Explanation {
            member: Member { pod: pod(name), mcp: true, intended: None, ports: [8000].into() },
            ports: vec![PortView {
                port: 8000,
                mode: None,
                unbound: Some(Unbound {
                    decided_by: key.field(name.to_owned()),
                    because: key.field(name.to_owned()),
                }),
                callers: vec![CallerView {
                    namespace: name.to_owned(),
                    service_account: name.to_owned(),
                    ruling: ruling.clone(),
                }],
                anonymous: Ruling { answer: Answer::Unknown, ..ruling },
            }],
            unknown: vec![(key.clone(), name.to_owned())],
            exceptions: vec![(key, name.to_owned(), true)],
        };
        harmless("words", &explain::text(&explanation), 13);
        let text = explain::json(&explanation);
        harmless("JSON", &text, text.matches('\n').count());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["pod"], name);
    }
}

#[test]
fn coverage_has_a_line_a_pod() {
    for name in HOSTILE {
        for reason in [None, Some(crate::coverage::Reason::HostNetwork)] {
            let line = PodCoverage { pod: Name::new(name, name), interface: Some(name.to_owned()), reason }
                .to_string();
            harmless("coverage", &line, 0);
            assert!(line.contains(&*printable(name)), "{line}");
        }
    }
}

#[test]
fn answers_of_the_api_are_one_line_and_give_the_name_back() {
    let api = Api::new(Lines::new(TrustDomain::new(None)), "node1");
    for name in HOSTILE {
        let flow = flow(name);
        let answer = api.flows([(FlowId::of(1), &flow)], 1, Page::new(10)).unwrap();
        let text = String::from_utf8(answer).unwrap();
        harmless("flows", &text, 0);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["flows"][0]["client"]["pod"], name);
        let pods = [PodCoverage { pod: Name::new(name, name), interface: None, reason: None }];
        let text = String::from_utf8(api.coverage(&pods, vec![]).unwrap()).unwrap();
        harmless("coverage", &text, 0);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["pods"][0]["pod"], name);
    }
}

#[test]
fn readiness_is_escaped() {
    let report = |name: &str| Readiness {
        workloads: vec![Assessment {
            namespace: name.to_owned(),
            kind: name.to_owned(),
            name: name.to_owned(),
            mcp: true,
            answer: Migrates::Blocked,
            declared: None,
            observed: None,
            breaks: vec![Break {
                client: name.to_owned(),
                port: Some(8000),
                traffic: name.to_owned(),
                connections: Some(1),
                last_seen: None,
                advice: name.to_owned(),
            }],
            notes: vec![name.to_owned()],
            next: "# Do this.\nkind: Thing\n".to_owned(),
        }],
        namespaces: vec![NamespaceAnswer {
            name: name.to_owned(),
            answer: Migrates::Blocked,
            workloads: (1, 0),
            next: None,
        }],
        notes: vec![name.to_owned()],
    };
    let lines = migration::table(&report("tame")).matches('\n').count();
    for name in HOSTILE {
        harmless("a table", &migration::table(&report(name)), lines);
        let text = migration::json(&report(name), std::time::Duration::ZERO);
        harmless("JSON", &text, text.matches('\n').count());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["workloads"][0]["name"], name);
    }
}
