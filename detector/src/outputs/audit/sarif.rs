//! Owns SARIF 2.1.0 (OASIS), as code scanning takes it.

use serde_json::{Value, json};

use super::{plain, pretty};
use crate::{
    audit::{Posture, Report},
    findings::{FindingId, Severity},
    printable::{printable_lines, printed},
};

pub(super) fn write(report: &Report) -> String {
    let mut ids: Vec<FindingId> = report.findings.iter().map(|posture| posture.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rules: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id": id.as_str(), "name": id.as_str(), "shortDescription": {"text": id.summary()}}))
        .collect();
    let results: Vec<Value> = report.findings.iter().map(|posture| result(posture, &ids)).collect();
    pretty(&json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "plainsight", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn result(posture: &Posture, ids: &[FindingId]) -> Value {
    let Posture { id, severity, subject, mcp, why, fix, decided_by } = posture;
    let level = match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    };
    let name = plain(subject);
    let by = decided_by.as_ref().map_or_else(String::new, |by| format!(" ({})", printed(by)));
    // The object is no file; code scanning wants a place all the same, and one that lasts.
    let encode = |text: &str| -> String {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(encode).collect()
    };
    let uri = format!(
        "kubernetes/{}/{}/{}",
        encode(&subject.namespace),
        encode(&subject.kind),
        encode(&subject.name)
    );
    json!({
        "ruleId": id.as_str(),
        "ruleIndex": ids.iter().position(|known| known == id),
        "level": level,
        "message": {"text": format!("{name}: {}{by}\n\n{}", printed(why), printable_lines(fix))},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": uri}},
            "logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}],
        }],
        "partialFingerprints": {
            "plainsight/v1": format!("{} {name} {}", id.as_str(), decided_by.as_deref().unwrap_or_default()),
        },
        "properties": {"severity": severity.as_str(), "mcp": mcp},
    })
}
