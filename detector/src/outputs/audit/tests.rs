//! The report, as people and tools get it.

use serde_json::Value;

use super::{Format, summary, write};
use crate::{
    audit::{Posture, Report, Subject},
    findings::{FindingId, Severity},
};

fn report(why: &str) -> Report {
    let posture = |id, severity, name: &str, port| Posture {
        id,
        severity,
        subject: Subject {
            namespace: "mcp".to_owned(),
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
            port,
        },
        mcp: port.is_some(),
        why: why.to_owned(),
        fix: "# ```\nkind: X\n".to_owned(),
        decided_by: Some("Pod mcp/a, spec".to_owned()),
    };
    Report {
        findings: vec![
            posture(FindingId::PortExempt, Severity::High, "tools", Some(8081)),
            posture(FindingId::NotMeshed, Severity::Low, "web", None),
        ],
        workloads: 4,
        mcp: 1,
        namespaces: 2,
    }
}

#[test]
fn the_summary_is_one_line() {
    assert_eq!(summary(&report("x"), 0), "4 workloads (1 MCP) in 2 namespaces: 1 high, 1 low");
    assert_eq!(
        summary(&Report::default(), 3),
        "0 workloads (0 MCP) in 0 namespaces: nothing found; 3 objects could not be read"
    );
}

#[test]
fn the_table_has_a_line_each_and_no_control_characters() {
    let table = write(&report("a\u{1b}[2Jb\nc"), 0, Format::Table);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(!table.contains('\u{1b}'));
    assert!(table.contains("high      mcp  port-exempt  Deployment mcp/tools:8081  "), "{table}");
}

#[test]
fn json_has_every_member() {
    let json: Value = serde_json::from_str(&write(&report("x"), 1, Format::Json)).unwrap();
    assert_eq!(json["summary"]["high"], 1);
    assert_eq!(json["summary"]["errors"], 1);
    let finding = &json["findings"][0];
    for (member, value) in
        [("id", "port-exempt"), ("severity", "high"), ("namespace", "mcp"), ("name", "tools")]
    {
        assert_eq!(finding[member], value);
    }
    assert_eq!(finding["port"], 8081);
    assert_eq!(json["findings"][1].get("port"), None);
}

#[test]
fn sarif_is_what_code_scanning_takes() {
    let sarif: Value = serde_json::from_str(&write(&report("x"), 0, Format::Sarif)).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.starts_with("kubernetes/mcp/Deployment/"), "{uri}");
        assert!(result["partialFingerprints"].is_object());
    }
    for rule in run["tool"]["driver"]["rules"].as_array().unwrap() {
        assert!(!rule["shortDescription"]["text"].as_str().unwrap().is_empty());
    }
}

#[test]
fn markdown_cannot_be_broken_out_of() {
    let text = write(&report("a|b<script>"), 0, Format::Markdown);
    assert!(text.contains("a\\|b&lt;script>"), "{text}");
    assert!(text.contains("````yaml\n# ```\nkind: X\n````\n"), "{text}");
}
