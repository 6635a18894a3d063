//! Owns the row of the looks: what it costs to ask every interface each second whether the programs are first on it.

use std::{
    ffi::OsString,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use detector_tests::{
    daemon::{self, Daemon},
    wait,
};

use crate::{
    Effort, machine,
    report::{Bar, Row, Unit},
    stats::Figure,
    traffic::Pair,
};

/// Of one core, on a node with as many pods as the kubelet takes by default.
const MOST: f64 = 0.5;

pub(crate) fn idle(effort: Effort) -> Result<Vec<Row>> {
    let lasting = Duration::from_secs(effort.pick(5, 30));
    let pair = Pair::new()?;
    let folder = tempfile::tempdir().context("make a folder")?;
    pair.node.manifests(folder.path(), "")?;
    let mut rows = Vec::new();
    // The pair's own are two of them.
    let mut there = 2;
    for pods in [110_u64, 250] {
        for number in there..pods {
            let name = pair.client.netns().name();
            let host = pair.node.netns();
            host.ip(&format!("link add veth{number} type veth peer name idle{number} netns {name}"))?;
        }
        there = pods;
        let share = |words: &[&str], attached: u64| -> Result<f64> {
            eprintln!("    {pods} pods {}", words.join(" "));
            let mut arguments = Daemon::arguments(folder.path());
            arguments.extend(words.iter().map(OsString::from));
            let daemon = Daemon::start_with(&pair.node, &daemon::binary()?, &arguments, None)?;
            wait::until(format!("{attached} interfaces"), Duration::from_secs(60), || {
                let now = daemon.scrape()?.sum("plainsight_interfaces_attached", &[]);
                if now > attached {
                    bail!("{now} interfaces are attached, and {attached} there");
                }
                Ok((now == attached).then_some(()))
            })?;
            let (before, start) = (machine::cpu_time_of(daemon.id())?, Instant::now());
            thread::sleep(lasting);
            let spent = machine::cpu_time_of(daemon.id())?.saturating_sub(before);
            let share = spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
            daemon.stop()?;
            Ok(share)
        };
        let none = share(&["--interfaces", "no-such-*"], 0)?;
        let tcx = share(&[], pods)?;
        let clsact = share(&["--hook", "clsact"], pods)?;
        let row = |hook: &str, share: f64| {
            let what =
                format!("user-space CPU of an idle daemon on {pods} interfaces by {hook}, of one core");
            let row = Row::new(format!("looks-{hook}-{pods}"), what, Figure::exact(share), Unit::Percent)
                .beside("on none of them", none, Unit::Percent);
            if pods == 110 { row.bar(Bar::AtMost(MOST)) } else { row }
        };
        rows.extend([row("tcx", tcx), row("clsact", clsact)]);
    }
    Ok(rows)
}
