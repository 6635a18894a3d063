//! Owns the body of a report of what stands for a pod: a `PolicyReport` of `wgpolicyk8s.io/v1alpha2`, or a
//! `Report` of `openreports.io/v1alpha1`, which took the former's place.
//!
//! One report a pod, named by the pod's uid and owned by it, as Kyverno and Trivy have it: with the pod it goes.
//! What counts connections is left out, or each connection would be a write.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde::Serialize;
use serde_json::json;

use super::{Subject, subject::is_label};
use crate::{
    findings::{Finding, FindingId, Severity},
    flows::{End, Timestamp},
    outputs::printable::{fit, printable, printable_lines, printed},
};

pub(super) const MANAGER: &str = "plainsight";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const NODE: &str = "plainsight.dev/node";
const LONGEST_MESSAGE: usize = 1024;
const LONGEST_FIX: usize = 2048;

/// Which of the two kinds of report the cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `policyreports.wgpolicyk8s.io`.
    WgPolicy,
    /// `reports.openreports.io`.
    OpenReports,
}

impl Flavour {
    const fn api_version(self) -> &'static str {
        match self {
            Self::WgPolicy => "wgpolicyk8s.io/v1alpha2",
            Self::OpenReports => "openreports.io/v1alpha1",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::WgPolicy => "PolicyReport",
            Self::OpenReports => "Report",
        }
    }
}

/// What stands, as a result of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    #[serde(skip)]
    severity: Severity,
    source: &'static str,
    policy: &'static str,
    category: &'static str,
    #[serde(rename = "severity")]
    severity_name: &'static str,
    result: &'static str,
    scored: bool,
    message: String,
    timestamp: Time,
    properties: BTreeMap<&'static str, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Time {
    seconds: u64,
    nanos: u64,
}

impl Outcome {
    pub(super) fn of(finding: &Finding) -> Self {
        let Finding { id, severity, flow, why, fix, decided_by } = finding;
        let mut properties = BTreeMap::from([
            ("client", who(&flow.client)),
            ("server", who(&flow.server)),
            ("port", flow.port.to_string()),
            ("verdict", flow.verdict.name().to_owned()),
            ("protocol", flow.protocol.name().to_owned()),
            ("evidence", flow.evidence.names().collect::<Vec<_>>().join(",")),
            ("fix", fit(&printable_lines(fix), LONGEST_FIX).into_owned()),
        ]);
        if let Some(by) = decided_by {
            properties.insert("decidedBy", printable(by).into_owned());
        }
        Self {
            severity: *severity,
            source: MANAGER,
            policy: id.as_str(),
            category: category(*id),
            severity_name: severity.as_str(),
            result: if *severity >= Severity::Medium { "fail" } else { "warn" },
            scored: *severity > Severity::Info,
            message: fit(&printable(why), LONGEST_MESSAGE).into_owned(),
            timestamp: time(flow.first_seen),
            properties,
        }
    }

    /// What it is about: two flows of the same ends give rise to one result.
    pub(super) fn about(&self) -> [&str; 4] {
        let of = |name| self.properties.get(name).map_or("", String::as_str);
        [self.policy, of("client"), of("server"), of("port")]
    }

    /// Worst first, and then in an order that does not change.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        (std::cmp::Reverse(self.severity), self.policy, self.message.clone())
    }
}

/// The report of a pod, as JSON that a server-side apply takes.
pub(super) fn compose(
    flavour: Flavour,
    subject: &Subject,
    node: &str,
    outcomes: &[&Outcome],
    left_out: usize,
) -> serde_json::Result<Vec<u8>> {
    let count = |result: &str| outcomes.iter().filter(|outcome| outcome.result == result).count();
    let mut annotations = BTreeMap::new();
    if left_out > 0 {
        annotations.insert("plainsight.dev/results-left-out", left_out.to_string());
    }
    let uid = subject.uid.to_string();
    let mut body = json!({
        "apiVersion": flavour.api_version(),
        "kind": flavour.kind(),
        "metadata": {
            "name": name(subject),
            "namespace": &*subject.name.namespace,
            "labels": { MANAGED_BY: MANAGER, NODE: node_label(node) },
            "annotations": annotations,
            "ownerReferences": [
                { "apiVersion": "v1", "kind": "Pod", "name": &*subject.name.name, "uid": uid },
            ],
        },
        "scope": subject.reference(),
        "results": outcomes,
        "summary": { "pass": 0, "fail": count("fail"), "warn": count("warn"), "error": 0, "skip": 0 },
    });
    if let (Flavour::OpenReports, Some(members)) = (flavour, body.as_object_mut()) {
        members.insert("source".to_owned(), json!(MANAGER));
    }
    serde_json::to_vec(&body)
}

/// The report's name.
pub(super) fn name(subject: &Subject) -> String {
    format!("{MANAGER}-{}", subject.uid)
}

/// The uid in a report's name.
pub(super) fn uid_of(name: &str) -> Option<&str> {
    name.strip_prefix(MANAGER)?.strip_prefix('-')
}

/// What the reports of a node are found by again.
pub(super) fn selector(node: &str) -> String {
    format!("{MANAGED_BY}={MANAGER},{NODE}={}", node_label(node))
}

/// A node's name as the value of a label, which is 63 characters at most.
fn node_label(node: &str) -> String {
    if node.len() <= 63 && node.split('.').all(is_label) {
        return node.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    format!("node-{:016x}", hasher.finish())
}

fn category(id: FindingId) -> &'static str {
    match id {
        FindingId::UnexpectedSource
        | FindingId::UnidentifiedSource
        | FindingId::SpoofedSource
        | FindingId::IdentityMismatch => "Caller identity",
        _ => "Encryption in transit",
    }
}

fn who(end: &End) -> String {
    match end {
        End::Pod { pod, .. } => printed(format_args!("pod {}", pod.name)),
        End::Service { service, .. } => printed(format_args!("service {}", service.name)),
        End::Node { name, .. } if !name.is_empty() => printed(format_args!("node {name}")),
        End::Node { address, .. } => format!("node {address}"),
        End::Spoofed { owner, sender, .. } => printed(format_args!("pod {} as {}", sender.name, owner.name)),
        End::External { address } => format!("external {address}"),
        End::Unknown { address } => format!("unknown {address}"),
    }
}

fn time(at: Timestamp) -> Time {
    const SECOND: u64 = 1_000_000_000;
    Time { seconds: at.0 / SECOND, nanos: at.0 % SECOND }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Flavour, Outcome, compose, name, node_label, selector, uid_of};
    use crate::{
        cluster::objects::Uid,
        findings::{Finding, Severity},
        outputs::kubernetes::Subject,
        testing,
    };

    fn body(flavour: Flavour, finding: &Finding, left_out: usize) -> Value {
        let subject = Subject::of(finding, "node1").unwrap();
        let outcome = Outcome::of(finding);
        serde_json::from_slice(&compose(flavour, &subject, "node1", &[&outcome], left_out).unwrap()).unwrap()
    }

    #[test]
    fn a_report_is_the_pods_and_goes_with_it() {
        let uid = "11111111-2222-4333-8444-555555555555";
        let report = body(Flavour::WgPolicy, &testing::finding(testing::mcp_flow()), 0);
        assert_eq!(
            (&report["apiVersion"], &report["kind"]),
            (&json!("wgpolicyk8s.io/v1alpha2"), &json!("PolicyReport"))
        );
        assert_eq!(report["metadata"]["name"], format!("plainsight-{uid}"));
        assert_eq!(
            report["metadata"]["ownerReferences"],
            json!([{ "apiVersion": "v1", "kind": "Pod", "name": "tools", "uid": uid }])
        );
        assert_eq!((&report["scope"]["uid"], &report["scope"]["kind"]), (&json!(uid), &json!("Pod")));
        assert_eq!(report["summary"], json!({ "pass": 0, "fail": 1, "warn": 0, "error": 0, "skip": 0 }));
        assert_eq!(report.get("source"), None, "the older kind has no such member");
        let open = body(Flavour::OpenReports, &testing::finding(testing::mcp_flow()), 0);
        assert_eq!((&open["kind"], &open["source"]), (&json!("Report"), &json!("plainsight")));
        assert_eq!(open["results"], report["results"]);
    }

    #[test]
    fn a_result_says_what_is_wrong_how_bad_and_what_to_do() {
        let finding = testing::finding(testing::mcp_flow());
        let result = body(Flavour::WgPolicy, &finding, 0)["results"][0].clone();
        assert_eq!(
            result,
            json!({
                "source": "plainsight",
                "policy": "plaintext-mcp",
                "category": "Encryption in transit",
                "severity": "high",
                "result": "fail",
                "scored": true,
                "message": "why it matters",
                "timestamp": { "seconds": 1, "nanos": 0 },
                "properties": {
                    "client": "pod mcp/client",
                    "server": "pod mcp/tools",
                    "port": "8000",
                    "verdict": "plaintext",
                    "protocol": "mcp",
                    "evidence": finding.flow.evidence.names().collect::<Vec<_>>().join(","),
                    "fix": "# Do this.\nkind: Thing\n",
                },
            })
        );
        let mild = body(Flavour::WgPolicy, &Finding { severity: Severity::Info, ..finding }, 3);
        assert_eq!(
            (&mild["results"][0]["result"], &mild["results"][0]["scored"]),
            (&json!("warn"), &json!(false))
        );
        assert_eq!(mild["metadata"]["annotations"]["plainsight.dev/results-left-out"], "3");
    }

    #[test]
    fn hostile_words_are_escaped_and_long_ones_cut() {
        let mut finding = testing::finding(testing::mcp_flow());
        finding.why = format!("\x1b]0;x\x07{}", "a".repeat(2000));
        finding.fix = format!("# a\x1b[1m\n{}", "b".repeat(9000));
        let report = body(Flavour::WgPolicy, &finding, 0);
        let result = &report["results"][0];
        assert!(result["message"].as_str().unwrap().starts_with("\\u{1b}]0;x\\u{7}aa"));
        assert!(result["message"].as_str().unwrap().len() <= 1024);
        assert!(result["properties"]["fix"].as_str().unwrap().starts_with("# a\\u{1b}[1m\nbb"));
        assert!(result["properties"]["fix"].as_str().unwrap().len() <= 2048);
    }

    #[test]
    fn reports_are_found_again_by_node_and_pod() {
        let subject = Subject::of(&testing::finding(testing::mcp_flow()), "node1").unwrap();
        assert_eq!(uid_of(&name(&subject)).map(Uid::from), Some(subject.uid));
        assert_eq!(selector("node1"), "app.kubernetes.io/managed-by=plainsight,plainsight.dev/node=node1");
        let long = format!("{}.example", "n".repeat(70));
        assert!(node_label(&long).len() <= 63 && node_label(&long) != node_label(&format!("{long}s")));
        assert!(node_label("a,b=c").starts_with("node-"));
    }
}
