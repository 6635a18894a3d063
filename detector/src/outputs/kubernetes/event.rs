//! Owns the body of an Event of `events.k8s.io/v1`.
//!
//! The API server holds it to limits (`ValidateEventCreate` and `legacyValidateEvent` of
//! `pkg/apis/core/validation/events.go`): notes of 1,024 bytes, reasons and actions of 128, a qualified name for
//! the controller, and on updates nothing but the series may change.

use std::hash::{DefaultHasher, Hasher as _};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff,
};
use serde_json::json;

use super::Subject;
use crate::{
    findings::{Finding, Severity},
    flows::{End, Timestamp},
    outputs::printable::{fit, printable, printed},
};

const CONTROLLER: &str = "plainsight.dev";
const ACTION: &str = "Observed";
const LONGEST_NOTE: usize = 1024;
const LONGEST_INSTANCE: usize = 128;
/// Of the pod's name before the dot and 16 digits that tell its events apart: 253 in all.
const LONGEST_STEM: usize = 236;

/// The event that tells of a finding, as JSON. `salt` tells it from others of the same pod.
pub(super) fn create(
    finding: &Finding,
    subject: &Subject,
    node: &str,
    name: &str,
) -> serde_json::Result<Vec<u8>> {
    let flow = &finding.flow;
    let kind = if finding.severity == Severity::Info { "Normal" } else { "Warning" };
    let about = flow.server.pod().is_some_and(|pod| pod.uid == subject.uid);
    let peer = if about { &flow.client } else { &flow.server };
    serde_json::to_vec(&Event {
        metadata: ObjectMeta {
            namespace: Some(subject.name.namespace.to_string()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(micros(flow.last_seen)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(fit(node, LONGEST_INSTANCE).into_owned()),
        action: Some(ACTION.to_owned()),
        reason: Some(reason(finding.id.as_str())),
        type_: Some(kind.to_owned()),
        note: Some(note(finding)),
        regarding: Some(subject.reference()),
        related: reference(peer),
        ..Event::default()
    })
}

/// The change that says how often it has happened by now.
pub(super) fn series(count: u64, last: Timestamp) -> serde_json::Result<Vec<u8>> {
    let series =
        EventSeries { count: i32::try_from(count).unwrap_or(i32::MAX), last_observed_time: micros(last) };
    serde_json::to_vec(&json!({ "series": series }))
}

/// A name for an event that no other event of the pod has.
pub(super) fn name(subject: &Subject, salt: impl std::hash::Hash) -> String {
    let stem: String = subject.name.name.chars().take(LONGEST_STEM).collect();
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    format!("{}.{:016x}", stem.trim_end_matches(['.', '-']), hasher.finish())
}

/// `plaintext-mcp` as events say it: `PlaintextMcp`.
fn reason(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for word in id.split('-') {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// What is the matter, and where to look for what to do.
fn note(finding: &Finding) -> String {
    let id = finding.id.as_str();
    let severity = finding.severity.as_str();
    let advice = finding.fix.lines().find_map(|line| line.strip_prefix("# "));
    let advice = advice.map(|line| format!(" Fix: {}", printable(line))).unwrap_or_default();
    let pointer = format!(" Runbook: {id}.");
    let why = printed(&finding.why);
    // The sentence is worth more than the advice, and the pointer is short.
    let room = LONGEST_NOTE - severity.len() - pointer.len() - 3;
    let why = fit(&why, room);
    let advice = if advice.len() + why.len() <= room { advice } else { String::new() };
    format!("{severity}: {why}.{advice}{pointer}")
}

fn micros(time: Timestamp) -> MicroTime {
    MicroTime(jiff::Timestamp::from_nanosecond(time.0.into()).unwrap_or(jiff::Timestamp::MAX))
}

impl Subject {
    pub(super) fn reference(&self) -> ObjectReference {
        pod(&self.name.namespace, &self.name.name, self.uid.to_string())
    }
}

fn pod(namespace: &str, name: &str, uid: String) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

/// The other end, where it is an object.
fn reference(end: &End) -> Option<ObjectReference> {
    let object = |kind: &str, namespace: Option<&str>, name: &str| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    };
    match end {
        End::Pod { pod: found, .. } | End::Spoofed { sender: found, .. } => {
            Some(pod(&found.name.namespace, &found.name.name, found.uid.to_string()))
        }
        End::Service { service, .. } => {
            Some(object("Service", Some(&service.name.namespace), &service.name.name))
        }
        End::Node { name, .. } if !name.is_empty() => Some(object("Node", None, name)),
        End::Node { .. } | End::External { .. } | End::Unknown { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{LONGEST_NOTE, create, name, reason, series};
    use crate::{
        cluster::objects::Name,
        findings::{Finding, Severity},
        flows::Timestamp,
        outputs::kubernetes::Subject,
        testing,
    };

    fn body(finding: &Finding) -> Value {
        let subject = Subject::of(finding, "node1").unwrap();
        serde_json::from_slice(&create(finding, &subject, "node1", "tools.1").unwrap()).unwrap()
    }

    #[test]
    fn an_event_says_what_the_api_server_demands() {
        let finding = testing::finding(testing::mcp_flow());
        let uid = "11111111-2222-4333-8444-555555555555";
        let event = body(&finding);
        assert_eq!(event["metadata"], json!({ "namespace": "mcp", "name": "tools.1" }));
        assert_eq!(event["eventTime"], "1970-01-01T00:00:02.000000Z");
        assert_eq!(event["reportingController"], "plainsight.dev");
        assert_eq!(event["reportingInstance"], "node1");
        assert_eq!((&event["action"], &event["reason"]), (&json!("Observed"), &json!("PlaintextMcp")));
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["note"], "high: why it matters. Fix: Do this. Runbook: plaintext-mcp.");
        assert_eq!(
            event["regarding"],
            json!({ "apiVersion": "v1", "kind": "Pod", "namespace": "mcp", "name": "tools", "uid": uid })
        );
        assert_eq!(event["related"]["name"], "client");
        assert_eq!(event.get("series"), None);
        let mild = Finding { severity: Severity::Info, ..finding };
        assert_eq!(body(&mild)["type"], "Normal");
    }

    #[test]
    fn a_note_keeps_to_its_limit_and_commands_no_terminal() {
        let mut finding = testing::finding(testing::mcp_flow());
        finding.why = format!("\x1b[2J{}\nforged", "東京".repeat(400));
        let note = body(&finding)["note"].as_str().unwrap().to_owned();
        assert!(note.len() <= LONGEST_NOTE, "{}", note.len());
        assert!(note.starts_with("high: \\u{1b}[2J東京"), "{note}");
        assert!(note.ends_with("….  Runbook: plaintext-mcp.".replace("  ", " ").as_str()), "{note}");
        assert!(!note.chars().any(char::is_control));
    }

    #[test]
    fn names_are_those_of_dns_and_differ() {
        let subject = |name: &str| Subject { uid: "x".into(), name: Name::new("mcp", name) };
        let long = format!("{}.-b", "a".repeat(234));
        let made = name(&subject(&long), 1);
        assert_eq!(made.len(), 234 + 17, "{made}");
        assert!(made.starts_with(&format!("{}.", "a".repeat(234))), "{made}");
        assert_eq!(name(&subject(&"b".repeat(253)), 1).len(), 253);
        assert_ne!(name(&subject("a"), 1), name(&subject("a"), 2));
    }

    #[test]
    fn a_reason_is_in_camel_case() {
        assert_eq!(reason("plaintext-in-strict"), "PlaintextInStrict");
        assert_eq!(reason("weak-tls"), "WeakTls");
    }

    #[test]
    fn a_series_says_how_often_and_when_last() {
        let patch: Value = serde_json::from_slice(&series(7, Timestamp(1_500_000_000)).unwrap()).unwrap();
        let expected = json!({ "series": { "count": 7, "lastObservedTime": "1970-01-01T00:00:01.500000Z" } });
        assert_eq!(patch, expected);
    }
}
