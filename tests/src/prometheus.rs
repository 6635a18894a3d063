//! Owns Prometheus as the tests use it: promtool, and a server inside a node that scrapes the daemon there.
//!
//! `cargo xtask` installs both under `target/tools`. The rules are those that ship, with time running faster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{clients, daemon, node::Node, process::Process};

/// Where the server listens, in the node's network namespace.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const START: Duration = Duration::from_secs(30);
/// Time between two scrapes, and between two evaluations.
const INTERVAL_MS: u64 = 500;
/// What a minute of the rules is.
const MINUTE_MS: u64 = 400;
/// The shortest range: a rate wants two samples, also on a busy machine.
const SHORTEST_RANGE_MS: u64 = 4_000;

/// The path of a program of Prometheus.
///
/// # Errors
///
/// Set-up has not been run.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = clients::tools()?.join("prometheus").join(name);
    if !path.exists() {
        bail!("{} is missing: run `cargo xtask setup`", path.display());
    }
    Ok(path)
}

/// Runs promtool with arguments and standard input, and gives what it wrote to both outputs.
///
/// # Errors
///
/// It is not there, or it says that something is wrong; what it wrote is in the error.
pub fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program("promtool")?);
    command.args(arguments).stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().context("start promtool")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).context("write to promtool")?;
    }
    let output = child.wait_with_output().context("wait for promtool")?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.concat();
    if !output.status.success() {
        bail!("promtool {} ended with {}:\n{text}", arguments.join(" "), output.status);
    }
    Ok(text)
}

/// Rules in which a minute takes 0.4 s, also where they compare with seconds of silence.
#[must_use]
pub fn hurried(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let line = match line.trim_start().strip_prefix("for: ").and_then(minutes) {
            Some(minutes) => line.replace(&format!("{minutes}m"), &format!("{}ms", minutes * MINUTE_MS)),
            None => hurried_ranges(line),
        };
        let line = line.replace("stale_seconds > 300", &format!("stale_seconds > {}", 5 * MINUTE_MS / 1000));
        // Writing to a string cannot fail.
        let _never = writeln!(text, "{line}");
    }
    text
}

/// `[5m]` and `offset 5m` of one line.
fn hurried_ranges(line: &str) -> String {
    let mut line = line.to_owned();
    for minutes in [5, 10, 15, 30] {
        let range = (minutes * MINUTE_MS).max(SHORTEST_RANGE_MS);
        line = line.replace(&format!("[{minutes}m]"), &format!("[{range}ms]"));
        line = line.replace(&format!("offset {minutes}m"), &format!("offset {range}ms"));
    }
    line
}

fn minutes(text: &str) -> Option<u64> {
    text.trim().strip_suffix('m')?.parse().ok()
}

/// An alert that fires: its labels, the name among them.
pub type Alert = BTreeMap<String, String>;

/// A server that scrapes the daemon of a node.
#[derive(Debug)]
pub struct Prometheus<'a> {
    node: &'a Node,
    process: Process,
    #[expect(dead_code, reason = "held, so that it lasts as long as the server")]
    folder: tempfile::TempDir,
}

impl<'a> Prometheus<'a> {
    /// Starts the server with rules, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It is not there, or does not like the rules.
    pub fn start(node: &'a Node, rules: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("plainsight-")
            .tempdir()
            .context("make a folder for Prometheus")?;
        let path = |name: &str| folder.path().join(name);
        let configuration = format!(
            "\
global:
  scrape_interval: {INTERVAL_MS}ms
  scrape_timeout: {INTERVAL_MS}ms
  evaluation_interval: {INTERVAL_MS}ms
rule_files: [rules.yaml]
scrape_configs:
- job_name: plainsight
  static_configs:
  - targets: [{}]
",
            daemon::ADMIN
        );
        fs::write(path("prometheus.yaml"), configuration).context("write Prometheus' configuration")?;
        fs::write(path("rules.yaml"), rules).context("write Prometheus' rules")?;
        let mut command = node.netns().command(program("prometheus")?);
        command.arg(format!("--config.file={}", path("prometheus.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", path("data").display()));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.arg("--log.level=warn");
        let mut process = node.spawn("prometheus", command)?;
        process.wait_while_running("readiness", START, |_| {
            Ok(get(node, "/-/ready").is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
        Ok(Self { node, process, folder })
    }

    /// The alerts that fire now.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub fn firing(&mut self) -> Result<BTreeSet<Alert>> {
        let answer = self.ask("/api/v1/alerts")?;
        let alerts = answer.pointer("/data/alerts").and_then(Value::as_array).context("no alerts")?;
        let labels = |alert: &Value| -> Result<Alert> {
            serde_json::from_value(alert["labels"].clone()).context("labels are no strings")
        };
        alerts.iter().filter(|alert| alert["state"] == "firing").map(labels).collect()
    }

    /// The value of a query with one result; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The server does not answer, or does not understand.
    pub fn value(&mut self, query: &str) -> Result<Option<f64>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"))?;
        let Some(value) = answer.pointer("/data/result/0/value/1") else { return Ok(None) };
        let value = value.as_str().context("a value is no string")?;
        Ok(Some(value.parse().context("a value is no number")?))
    }

    fn ask(&mut self, path: &str) -> Result<Value> {
        if let Some(status) = self.process.ended()? {
            bail!("prometheus ended with {status}: {}", self.process.stderr().join("\n"));
        }
        let (status, body) = get(self.node, path)?;
        if status != 200 {
            bail!("prometheus answered {status}: {body}");
        }
        serde_json::from_str(&body).context("prometheus' answer is no JSON")
    }
}

/// Asks by HTTP/1.0, to which no answer comes in chunks.
fn get(node: &Node, path: &str) -> Result<(u16, String)> {
    let limit = Duration::from_secs(10);
    let mut stream = node.netns().run(|| Ok(TcpStream::connect_timeout(&ADDRESS, limit)?))?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {ADDRESS}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status in {head:?}"))?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::hurried;

    #[test]
    fn minutes_of_rules_become_fractions_of_a_second_and_nothing_else_changes() {
        let rules =
            "  - alert: A\n    expr: rate(a_total[5m]) > 5 or b offset 30m\n    for: 10m\n    summary: 10m\n";
        assert_eq!(
            hurried(rules),
            "  - alert: A\n    expr: rate(a_total[4000ms]) > 5 or b offset 12000ms\n    for: 4000ms\n    summary: 10m\n"
        );
    }
}
