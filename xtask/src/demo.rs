//! `cargo xtask demo`: the main job, end to end, on a small node made of network namespaces.
//!
//! Pods, traffic and what must be found are the tests' own scenario. Whatever way the demo ends, its
//! destructors remove everything that it made; what a killed one left behind, the next one removes.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use detector_tests::{
    daemon::{ADMIN, Daemon},
    scenario::{FINDINGS, FLOWS, Scenario},
    wait,
};

use crate::{interrupt, process::step};

mod table;

/// Longer than anyone watches.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the demo is asked for, and the binary that it shows.
#[derive(Debug)]
pub(crate) struct Options {
    /// Leave everything running at the end.
    pub(crate) keep: bool,
    /// The detector, built.
    pub(crate) plainsight: PathBuf,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let Options { keep, plainsight } = options;
    wait::end_when(|| interrupt::raised().is_some());

    let mut made = None;
    step("make a node with seven pods and start their servers", || {
        made = Some(Scenario::start()?);
        Ok(())
    })?;
    let Some(scenario) = made else { return Ok(()) };
    let mut started = None;
    step("start plainsight on the node", || {
        let arguments = Daemon::arguments(&scenario.manifests());
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        eprintln!("    plainsight {}", words.join(" "));
        started = Some(scenario.detector(&plainsight)?);
        Ok(())
    })?;
    let Some(mut daemon) = started else { return Ok(()) };
    step("MCP in the clear and behind TLS, health checks, and a caller that nobody expects", || {
        scenario.traffic()
    })?;

    let verified = scenario.verify(&mut daemon);
    let records = daemon.records();
    println!("\n{}\n{}", table::flows(&records), table::findings(&records));
    verified?;
    println!("All {} flows and {} findings of this scenario are there.", FLOWS.len(), FINDINGS.len());

    if keep {
        show_how_to_look(&scenario);
        wait_for_the_user(&mut daemon)?;
    }
    daemon.stop()?;
    drop(scenario);
    eprintln!("Everything that the demo made is removed.");
    Ok(())
}

fn show_how_to_look(scenario: &Scenario) {
    let on_node = format!("nsenter --net={}", scenario.node().netns().path().display());
    let in_pod = format!("nsenter --net={}", scenario.debug_shell().netns().path().display());
    println!(
        "
Everything keeps running. In another terminal, as root:
  metrics         {on_node} curl -s http://{ADMIN}/metrics
  log             tail -f {log}
  manifests       ls {manifests}
  more traffic    {in_pod} curl -s http://{server}/healthz
Ctrl-C here ends it and removes everything.",
        log = scenario.log().display(),
        manifests = scenario.manifests().display(),
        server = scenario.clear_server(),
    );
}

/// Returns when the user asks to end, which is how it should be.
fn wait_for_the_user(daemon: &mut Daemon<'_>) -> Result<()> {
    let ended = wait::until("the user", KEEP, || Ok(daemon.ended()?.then_some(())));
    if interrupt::raised().is_none() {
        ended?;
        bail!("plainsight ended: see its log\n{}", daemon.output());
    }
    Ok(())
}
