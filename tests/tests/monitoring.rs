//! Alerts, dashboard and runbooks against what the program exports, and against each other.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

#[path = "monitoring/promql.rs"]
mod promql;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use detector::{findings::FindingId, outputs::metrics::FAMILIES};
use detector_tests::{daemon, prometheus::promtool};
use serde_json::Value;

const RULES: &str = "deploy/alerts/plainsight.rules.yaml";
const PROMETHEUS_RULE: &str = "deploy/alerts/prometheusrule.yaml";
const DASHBOARD: &str = "deploy/dashboards/plainsight.json";
const RUNBOOKS: &str = "docs/runbooks";
const RUNBOOK_BASE: &str = "https://plainsight.dev/docs/runbooks/";

/// Labels that come from the scrape and not from the program.
const TARGET: [&str; 2] = ["instance", "job"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    values.into_iter().map(str::to_owned).collect()
}

/// All rules, of recording and of alerting.
fn rules() -> Vec<Value> {
    let groups = yaml(RULES)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// What can be asked for, with its labels: what is exported, what is recorded, and what others export.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let labels = |labels: &[&str]| texts(labels.iter().copied().chain(TARGET));
    let mut known: BTreeMap<String, BTreeSet<String>> =
        FAMILIES.iter().map(|family| (family.name.to_owned(), labels(family.labels))).collect();
    known.insert("up".to_owned(), labels(&[]));
    known.insert("kube_daemonset_status_number_unavailable".to_owned(), labels(&["daemonset", "namespace"]));
    for rule in rules() {
        if let Some(name) = rule["record"].as_str() {
            // What is recorded is aggregated by these, and has no others.
            let by = promql::grouping(rule["expr"].as_str().unwrap());
            known.insert(name.to_owned(), by.into_iter().collect());
        }
    }
    known
}

#[track_caller]
fn assert_asks_for_what_is_there(what: &str, expression: &str) {
    let known = known();
    let asked = promql::read(expression);
    assert!(!asked.selectors.is_empty(), "{what} asks for nothing: {expression}");
    let mut all = BTreeSet::new();
    for (metric, labels) in &asked.selectors {
        let has = known.get(metric).unwrap_or_else(|| panic!("{what}: nobody exports {metric}"));
        for label in labels {
            assert!(has.contains(label), "{what}: {metric} has no label {label}");
        }
        all.extend(has.iter().cloned());
    }
    for label in &asked.grouping {
        assert!(all.contains(label), "{what}: groups by {label}, which nothing in it has: {expression}");
    }
}

#[test]
fn the_prometheus_rule_is_made_of_the_rules() {
    let rules = read(RULES);
    let groups = &rules[rules.find("groups:").unwrap()..];
    let mut made = String::from(
        "# Made of plainsight.rules.yaml by `UPDATE=1 cargo test -p detector-tests --test monitoring`; do not edit.\n\
         apiVersion: monitoring.coreos.com/v1\n\
         kind: PrometheusRule\n\
         metadata:\n  name: plainsight\n  labels:\n    app.kubernetes.io/name: plainsight\n\
         spec:\n",
    );
    for line in groups.lines() {
        made.push_str(if line.is_empty() { "" } else { "  " });
        made.push_str(line);
        made.push('\n');
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(PROMETHEUS_RULE), &made).unwrap();
    }
    assert!(read(PROMETHEUS_RULE) == made, "{PROMETHEUS_RULE} is old: its first line says how it is made");
    assert_eq!(yaml(PROMETHEUS_RULE)["spec"]["groups"], yaml(RULES)["groups"]);
}

#[test]
fn promtool_takes_the_rules_and_every_alert_fires_is_silent_and_resolves_as_it_should() {
    let path = |path: &str| root().join(path).to_str().unwrap().to_owned();
    promtool(&["check", "rules", &path(RULES)], "").unwrap();
    let mut tried: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
    for file in ["tests/promtool/findings.yaml", "tests/promtool/blindness.yaml"] {
        promtool(&["test", "rules", &path(file)], "").unwrap();
        for test in yaml(file)["tests"].as_array().unwrap() {
            let cases = test["alert_rule_test"].as_array().unwrap();
            let mut courses: BTreeMap<String, String> = BTreeMap::new();
            for case in cases {
                let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
                let course = courses.entry(case["alertname"].as_str().unwrap().to_owned()).or_default();
                course.push(if fires { '!' } else { '.' });
            }
            for (alert, course) in courses {
                let quiet = course.chars().all(|step| step == '.');
                tried.entry(alert).or_default().push((course, quiet));
            }
        }
    }
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let tried = tried.get(name).unwrap_or_else(|| panic!("{name} is not tried"));
        assert!(tried.iter().any(|(course, _)| course.contains(".!.")), "{name}: pending, firing, resolved");
        assert!(tried.iter().any(|(_, quiet)| *quiet), "{name}: something like it that must not fire");
    }
}

#[test]
fn an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on() {
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(name.starts_with("Plainsight"), "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        for annotation in ["summary", "description", "runbook_url"] {
            let text = alert["annotations"][annotation].as_str();
            assert!(text.is_some_and(|text| !text.trim().is_empty()), "{name} has no {annotation}");
        }
        assert!(alert["annotations"]["summary"].as_str().unwrap().ends_with('.'), "{name}");
    }
}

#[test]
fn what_pages_is_critical_and_nothing_alerts_on_info() {
    for alert in alerts() {
        let expression = alert["expr"].as_str().unwrap();
        if !expression.contains("plainsight_findings_active:max") {
            assert_eq!(alert["labels"]["severity"], "warning", "blindness is a ticket: {alert}");
            continue;
        }
        assert!(!expression.contains("info"), "{expression}");
        let pages = alert["labels"]["severity"] == "critical";
        assert_eq!(pages, !expression.contains("severity=~\"high|medium|low\""), "{expression}");
    }
}

/// The name of the runbook of an alert on blindness: `PlainsightPodsNotObserved` has `pods-not-observed`.
fn kebab(alert: &str) -> String {
    let mut kebab = String::new();
    for letter in alert.strip_prefix("Plainsight").unwrap().chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

#[test]
fn every_finding_and_every_alert_has_a_runbook_and_no_runbook_is_an_orphan() {
    let ids = texts(FindingId::ALL.iter().map(|id| id.as_str()));
    let mut wanted = ids.clone();
    for alert in alerts() {
        let link = alert["annotations"]["runbook_url"].as_str().unwrap();
        let page = link.strip_prefix(RUNBOOK_BASE).and_then(|rest| rest.strip_suffix(".md")).unwrap();
        if page == "{{ $labels.id }}" {
            continue;
        }
        let name = alert["alert"].as_str().unwrap();
        assert!(ids.contains(page) || page == kebab(name), "{name} points to {page}");
        wanted.insert(page.to_owned());
    }
    let files = fs::read_dir(root().join(RUNBOOKS)).unwrap();
    let there: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .map(|name| name.strip_suffix(".md").unwrap().to_owned())
        .collect();
    assert_eq!(there, wanted);
    let index = read("docs/runbooks/README.md");
    for page in &there {
        assert!(index.contains(&format!("({page}.md)")), "the index lacks {page}");
        let text = read(&format!("{RUNBOOKS}/{page}.md"));
        assert!(text.starts_with(&format!("# {page}: ")), "{page}");
        for part in ["## What it means", "## Confirm", "## Fix", "## See that it cleared"] {
            assert!(text.contains(&format!("\n{part}\n\n")), "{page} lacks {part:?}");
        }
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(root().join(RUNBOOKS).join(link).exists(), "{page} links to {link}");
        }
    }
}

/// The fenced blocks of a language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start() == format!("```{language}") {
            let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
            let block = block.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line)));
            blocks.push(block.collect());
        }
    }
    blocks
}

fn pages() -> Vec<(String, String)> {
    let files = fs::read_dir(root().join(RUNBOOKS)).unwrap();
    let name = |file: std::io::Result<fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
    let mut pages: Vec<_> = files.map(name).map(|name| format!("{RUNBOOKS}/{name}")).collect();
    pages.push("docs/metrics.md".to_owned());
    pages.into_iter().map(|page| (page.clone(), read(&page))).collect()
}

#[test]
fn manifests_in_the_runbooks_are_read_by_the_program_without_a_complaint() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (page, text) in pages() {
        for block in blocks(&text, "yaml") {
            count += 1;
            let name = page.rsplit('/').next().unwrap();
            fs::write(folder.path().join(format!("{name}-{count}.yaml")), block).unwrap();
        }
    }
    assert!(count >= FindingId::ALL.len(), "{count} manifests");
    let mut audit = Command::new(daemon::binary().unwrap());
    let output = audit.args(["audit", "--manifests"]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

#[test]
fn queries_of_rules_runbooks_and_dashboard_parse_and_ask_for_what_is_exported() {
    let mut queries: Vec<(String, String)> = Vec::new();
    for rule in rules() {
        let name = rule["record"].as_str().or_else(|| rule["alert"].as_str()).unwrap().to_owned();
        queries.push((name, rule["expr"].as_str().unwrap().to_owned()));
    }
    for (page, text) in pages() {
        queries.extend(blocks(&text, "promql").into_iter().map(|block| (page.clone(), block)));
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let before = queries.len();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap();
            queries.push((format!("panel {title}"), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    assert!(queries.len() - before >= 20, "the dashboard has panels");
    let mut file = String::from("groups:\n- name: all\n  rules:\n");
    for (index, (what, query)) in queries.iter_mut().enumerate() {
        // What Grafana puts in.
        *query = query.replace("$__rate_interval", "5m").replace("$__range", "6h");
        assert_asks_for_what_is_there(what, query);
        file.push_str(&format!("  - record: q:{index}\n    expr: {}\n", Value::from(query.as_str())));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yaml");
    fs::write(&path, file).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()], "").unwrap();
}

#[test]
fn the_dashboard_shows_what_it_should_and_every_panel_lies_free() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&str> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    assert_eq!(rows, ["Findings", "Plaintext", "Readiness for STRICT", "Coverage", "Cost of the detector"]);
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{panel}");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
        // Columns that are hidden or renamed, and names in legends, are labels that the query leaves.
        for target in panel["targets"].as_array().into_iter().flatten() {
            let by: BTreeSet<String> =
                promql::grouping(target["expr"].as_str().unwrap()).into_iter().collect();
            let legend = target["legendFormat"].as_str().unwrap();
            for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
                assert!(by.contains(label) || TARGET.contains(&label), "{}: {label}", panel["title"]);
            }
        }
    }
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "namespace", "instance"]);
    let provider = yaml("deploy/dashboards/provisioning/plainsight.yaml");
    assert_eq!(provider["providers"][0]["type"], "file");
}

#[test]
fn promtool_has_nothing_to_say_against_names_types_and_help() {
    let mut text = String::new();
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("{label}=\"a\"")).collect();
        text.push_str(&format!(
            "# HELP {0} {1}\n# TYPE {0} {2}\n{0}{{{3}}} 1\n",
            family.name,
            family.help,
            family.kind.as_str(),
            labels.join(",")
        ));
    }
    assert_eq!(promtool(&["check", "metrics"], &text).unwrap(), "");
}
