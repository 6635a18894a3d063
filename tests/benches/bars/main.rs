//! The benchmark: measures every bar of the design on this machine, each figure beside its comparison from
//! the same run.
//!
//! `cargo xtask bench` builds and starts it. Runs with and without are interleaved and compared in pairs, and
//! medians are reported, so that what else the machine does hits both. Nothing here asserts on time: a bar
//! that is missed is reported as missed.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::report::{Report, Row};

mod budget;
mod daemon;
mod looks;
mod machine;
mod packets;
mod payloads;
mod profile;
mod replay;
mod report;
mod stats;
mod subject;
mod traffic;
mod wire;

/// `sysexits.h`: the command was used wrongly.
const EX_USAGE: u8 = 64;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// To see that it works.
    Quick,
    /// To compare.
    Full,
}

impl Effort {
    fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// Rows that are measured together.
struct Group {
    name: &'static str,
    about: &'static str,
    /// Whether it is measured when no group is named.
    by_default: bool,
    measure: fn(Effort) -> Result<Vec<Row>>,
}

const GROUPS: [Group; 10] = [
    group("settled", "a packet of a settled flow, by BPF_PROG_TEST_RUN", packets::settled),
    group("watched", "the same, with watched flows in the flow map", packets::watched),
    group("deciding", "packets that decide: TLS, and plaintext request heads", packets::deciding),
    group("wire", "rates over a veth pair with the detector and without", wire::rates),
    group("budget", "kernel time under plaintext", budget::share),
    group("memory", "resident memory, and kernel memory of the maps", daemon::memory),
    group("latency", "from the deciding packet to the metric and the log line", daemon::latency),
    group("cpu", "the daemon's CPU time under new connections", daemon::cpu),
    group("looks", "CPU time of the looks at every interface, on an idle node", looks::idle),
    group("replay", "speed of `plainsight replay`", replay::speed),
];

const PROFILE: Group = Group {
    name: "profile",
    about: "where the cost is: packets that differ in one thing",
    by_default: false,
    measure: profile::parts,
};

const fn group(name: &'static str, about: &'static str, measure: fn(Effort) -> Result<Vec<Row>>) -> Group {
    Group { name, about, by_default: true, measure }
}

/// What the command line asks for.
struct Arguments {
    json: bool,
    effort: Effort,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments { json: false, effort: Effort::Full, names: Vec::new() };
    let mut benchmarking = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // What `cargo bench` says, and `cargo test --benches` does not.
            "--bench" => benchmarking = true,
            "--json" => arguments.json = true,
            "--quick" => arguments.effort = Effort::Quick,
            _ => arguments.names.push(argument),
        }
    }
    if !benchmarking {
        eprintln!("nothing is measured: run `cargo xtask bench`");
        return ExitCode::SUCCESS;
    }
    let groups: Vec<&Group> = GROUPS.iter().chain([&PROFILE]).collect();
    if arguments.names.iter().any(|name| name == "list") {
        for Group { name, about, .. } in groups {
            println!("{name:<10} {about}");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.names.iter().find(|name| groups.iter().all(|group| group.name != **name))
    {
        eprintln!("no rows are called {unknown}: `cargo xtask bench list` names them");
        return ExitCode::from(EX_USAGE);
    }
    match run(&groups, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(groups: &[&Group], arguments: &Arguments) -> Result<()> {
    if !detector_tests::netns::is_root() {
        bail!("the benchmark makes network namespaces and loads eBPF programs: run it as root");
    }
    let Arguments { json, effort, names } = arguments;
    let mut report = Report::new(*effort)?;
    let mut failed = 0;
    for group in groups {
        let wanted = if names.is_empty() { group.by_default } else { names.iter().any(|n| n == group.name) };
        if !wanted {
            continue;
        }
        eprintln!("==> {}: {}", group.name, group.about);
        // The other rows are worth having without this one.
        match (group.measure)(*effort).with_context(|| format!("measure {}", group.name)) {
            Ok(rows) => report.add(group.name, rows),
            Err(error) => {
                eprintln!("    {error:#}");
                failed += 1;
            }
        }
    }
    if *json {
        println!("{}", report.json());
    } else {
        println!("{}", report.table());
    }
    match failed {
        0 => Ok(()),
        1 => bail!("one group of rows could not be measured: see above"),
        _ => bail!("{failed} groups of rows could not be measured: see above"),
    }
}
