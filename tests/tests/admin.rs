//! The admin port of the real daemon: what it tells, and to whom.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

use std::time::Duration;

use detector_tests::{
    clients,
    daemon::{self, Daemon},
    netns,
    node::NODE_ADDRESS,
    scenario::{Scenario, TOKEN},
    wait,
};
use serde_json::{Value, json};

/// From traffic to word of it.
const WORD: Duration = Duration::from_secs(15);

/// The daemon's rows of a resource, over all pages of `limit` rows.
fn rows(daemon: &Daemon<'_>, resource: &str, limit: usize) -> anyhow::Result<Vec<Value>> {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = daemon.api(&format!("/api/v1/{resource}?limit={limit}&after={after}"))?;
        rows.extend(page[resource].as_array().unwrap().iter().cloned());
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(rows),
        }
    }
}

#[test]
fn the_api_tells_what_the_lines_tell_and_no_token() {
    if !netns::require_root() {
        return;
    }
    let scenario = Scenario::start().unwrap();
    let mut daemon = scenario.detector(&daemon::binary().unwrap()).unwrap();
    scenario.traffic().unwrap();
    scenario.verify(&mut daemon).unwrap();

    // A count may grow between the two; what a flow is does not change.
    let what = |row: &Value| {
        let end =
            |end: &Value| [end["namespace"].clone(), end["pod"].clone(), end["service_account"].clone()];
        json!([
            end(&row["client"]),
            end(&row["server"]),
            row["port"],
            row["verdict"],
            row["protocol"],
            row["id"]
        ])
        .to_string()
    };
    for (resource, kind) in [("flows", "flow"), ("findings", "finding")] {
        let told: Vec<String> = daemon
            .records()
            .iter()
            .filter(|record| record.text("kind") == kind)
            .map(|record| what(&record.line))
            .collect();
        assert!(told.len() >= 3, "{told:?}");
        wait::until("the API to tell what the lines tell", WORD, || {
            let all: Vec<String> = rows(&daemon, resource, 2000)?.iter().map(what).collect();
            let paged: Vec<String> = rows(&daemon, resource, 1)?.iter().map(what).collect();
            Ok((all == paged && told.iter().all(|row| all.contains(row))).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{told:#?}\n{:#?}", rows(&daemon, resource, 2000)));
    }
    let findings = daemon.api("/api/v1/findings").unwrap();
    assert!(findings["findings"].as_array().unwrap().iter().all(|finding| finding["fix"].is_string()));

    let coverage = daemon.api("/api/v1/coverage").unwrap();
    let pods = coverage["pods"].as_array().unwrap();
    assert_eq!(pods.len(), 7);
    assert!(pods.iter().all(|pod| pod["observed"] == true), "{coverage}");
    let node = daemon.api("/api/v1/node").unwrap();
    assert_eq!((&node["ready"], &node["pods"]), (&json!(true), &json!({"observed": 7, "not_observed": 0})));
    assert!(node["observed_since"].as_str() >= node["started"].as_str(), "{node}");

    for resource in ["flows", "findings", "coverage", "node"] {
        let text = daemon.api(&format!("/api/v1/{resource}")).unwrap().to_string();
        assert!(!text.contains(TOKEN), "{text}");
    }
    daemon.stop().unwrap();
}

#[test]
fn a_pod_may_scrape_and_probe_but_not_read_who_calls_whom() {
    if !netns::require_root() {
        return;
    }
    let scenario = Scenario::start().unwrap();
    let mut arguments = Daemon::arguments(&scenario.manifests());
    let listen = arguments.iter_mut().find(|word| *word == "127.0.0.1:9464").unwrap();
    *listen = "[::]:9464".into();
    let daemon = Daemon::start_with(scenario.node(), &daemon::binary().unwrap(), &arguments, None).unwrap();
    let status = |path: &str| {
        let url = format!("http://{NODE_ADDRESS}:9464{path}");
        let options = ["--no-fail", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let curl = clients::curl(scenario.debug_shell(), &url, &options).unwrap();
        curl.succeed(WORD).unwrap()
    };
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(status(path).trim(), "200", "{path}");
    }
    for path in ["/api/v1/flows", "/api/v1/findings", "/api/v1/coverage", "/api/v1/node", "/api/"] {
        assert_eq!(status(path).trim(), "403", "{path}");
    }
    assert!(daemon.api("/api/v1/flows").is_ok());
    daemon.stop().unwrap();
}
