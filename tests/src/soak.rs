//! Owns the soak: a node on which pods come and go, connections are made all the time and the API server fails
//! now and then, and the question whether the daemon's books are right at the end and its memory flat.

use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    apiserver::{ApiServer, Fault, Match, Verb},
    daemon::Daemon,
    exchange::{Server, Talk},
    metrics::Scrape,
    node::{NODE_NAME, Node, PlannedPod, Pod, PodSpec},
    wait,
};

const PORT: u16 = 8000;
/// Addresses that pods come and go at.
const SEATS: usize = 8;
/// Connections of each kind in a round.
const TIMES: u32 = 10;
/// One connection in this many may be told of twice: those of a pod whose address passed on while they ended.
const TWICE: u64 = 500;
/// From the last connection to its place in the books.
const BOOKED: Duration = Duration::from_secs(60);
const SAMPLE: Duration = Duration::from_secs(5);
/// What memory may grow by from the second third of the run to the last, in KiB: buffers and allocator.
const GROWTH: u64 = 8 * 1024;

/// The state of the daemon at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the start.
    pub at: Duration,
    /// Memory that it has resident, in KiB.
    pub resident: u64,
    /// Flows in the kernel's map.
    pub flows: u64,
    /// Edges in the kernel's map.
    pub edges: u64,
    /// Pods that have come and gone.
    pub pods: u32,
    /// Faults that the API server had.
    pub faults: u32,
    /// Connections that were made.
    pub made: u64,
    /// Connections that have a verdict.
    pub verdicts: u64,
}

/// Makes traffic for `length`, tells of each sample, and gives the last.
///
/// # Errors
///
/// The daemon's books do not add up, its memory grows, its maps fill, or the scenario cannot be made.
pub fn run(binary: &Path, length: Duration, mut progress: impl FnMut(&Sample)) -> Result<Sample> {
    let mut node = Node::new()?;
    let server = node.pod(PodSpec::new("tools", "server"))?;
    let client = node.pod(PodSpec::new("agents", "client"))?;
    let seats = (0..SEATS)
        .map(|seat| node.plan(PodSpec::new("churn", &format!("seat-{seat}"))))
        .collect::<Result<Vec<_>>>()?;
    let api = node.netns().run(ApiServer::start)?;
    api.apply_all([object(server.plan(), "server"), object(client.plan(), "client")]);
    let folder = tempfile::tempdir()?;
    let mut arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path())?);
    // Short, so that the maps' fill is that of a long run after a minute; and nothing may be left out.
    arguments.extend(["--flow-idle", "20", "--scan-budget", "100", "--max-edges", "2048"].map(Into::into));
    let daemon = Daemon::start_with(&node, binary, &arguments, None)?;
    wait::until("both pods observed", BOOKED, || {
        Ok((daemon.readiness()?.matches("observed      ").count() >= 2).then_some(()))
    })?;
    let _listening = Server::start(&server, PORT)?;
    let to = SocketAddr::new(server.ip(), PORT);

    let begin = Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    let (mut decided, mut silent, mut pods, mut faults) = (0_u64, 0_u64, 0_u32, 0_u32);
    let sample = |decided: u64, silent: u64, pods: u32, faults: u32| -> Result<Sample> {
        let scrape = daemon.scrape()?;
        let entries = |map: &str| scrape.sum("plainsight_map_entries", &[&format!("map=\"{map}\"")]);
        Ok(Sample {
            at: begin.elapsed(),
            resident: daemon.resident()?,
            flows: entries("flows"),
            edges: entries("edges"),
            pods,
            faults,
            made: decided + silent,
            verdicts: scrape.connections(),
        })
    };
    for round in 0_u32.. {
        if begin.elapsed() >= length {
            break;
        }
        for talk in [Talk::Mcp, Talk::Http, Talk::Unknown] {
            client.talk(to, talk, TIMES)?;
            decided += u64::from(TIMES);
        }
        client.talk(to, Talk::Silent, TIMES)?;
        silent += u64::from(TIMES);
        let seat = seats.get(round as usize % SEATS);
        if let Some(plan) = seat {
            // Each comes back under another name than it had last time, at the same address.
            decided +=
                come_and_go(&node, &api, plan, &format!("guest-{}", round % (2 * SEATS as u32 + 1)), to)?;
            pods += 1;
        }
        if round % 4 == 3 {
            fail(&api, round / 4);
            faults += 1;
        }
        if samples.last().is_none_or(|last| begin.elapsed().saturating_sub(last.at) >= SAMPLE) {
            let taken = sample(decided, silent, pods, faults)?;
            progress(&taken);
            samples.push(taken);
        }
    }
    api.heal();

    let made = decided + silent;
    let booked = wait::until("books that add up", BOOKED, || {
        let scrape = daemon.scrape()?;
        Ok(Books::of(&scrape).explain(made).then_some(scrape))
    });
    let scrape = match booked {
        Ok(scrape) => scrape,
        Err(error) => return Err(error.context(format!("{made} made, {:?}", Books::of(&daemon.scrape()?)))),
    };
    let last = sample(decided, silent, pods, faults)?;
    progress(&last);
    let books = Books::of(&scrape);
    ensure!(books.lost <= made / TWICE, "too much was lost without overload: {books:?} of {made}");
    flat(&samples)?;
    daemon.stop()?;
    Ok(last)
}

/// What the daemon says has become of connections.
#[derive(Debug)]
struct Books {
    verdicts: u64,
    /// Seen on two interfaces, so counted twice each.
    undecided: u64,
    lost: u64,
}

impl Books {
    fn of(scrape: &Scrape) -> Self {
        let lost =
            ["flow_map_full", "edge_map_full", "open_refused", "budget_spent", "sequence_gap", "step_limit"];
        Self {
            verdicts: scrape.connections(),
            undecided: scrape.kernel("closed_undecided") + scrape.kernel("closed_silent"),
            lost: lost.iter().map(|reason| scrape.kernel(reason)).sum(),
        }
    }

    /// Whether nothing is missing, and hardly anything is told twice: a connection that is seen on two interfaces
    /// while an address passes from one pod to another has two clients.
    fn explain(&self, made: u64) -> bool {
        let Self { verdicts, undecided, lost } = self;
        let told = verdicts + undecided / 2;
        told <= made + made / TWICE && made <= told + lost
    }
}

/// The last third of the run needs no more memory than the one before, but for a rest, and no more of the maps.
fn flat(samples: &[Sample]) -> Result<()> {
    let third = samples.len() / 3;
    let greatest =
        |samples: &[Sample], of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or_default();
    let (Some(middle), Some(end)) = (samples.get(third..2 * third), samples.get(2 * third..)) else {
        return Ok(());
    };
    if middle.is_empty() {
        return Ok(());
    }
    let [before, after] = [middle, end].map(|part| greatest(part, |sample| sample.resident));
    ensure!(after <= before + GROWTH, "resident memory grew from {before} KiB to {after} KiB");
    let [before, after] = [middle, end].map(|part| greatest(part, |sample| sample.flows));
    ensure!(after <= before * 2 + 1_000, "the flow map filled from {before} to {after}");
    let [before, after] = [middle, end].map(|part| greatest(part, |sample| sample.edges));
    ensure!(after <= before * 2 + 100, "the edge map filled from {before} to {after}");
    Ok(())
}

/// A pod comes, speaks, and goes with its interface. Gives the connections that it made.
fn come_and_go(node: &Node, api: &ApiServer, plan: &PlannedPod, name: &str, to: SocketAddr) -> Result<u64> {
    api.apply(object(plan, name));
    let pod: Pod = node.start(plan)?;
    pod.talk(to, Talk::Http, TIMES)?;
    drop(pod);
    // The host's end goes with the namespace, but later.
    wait::until("an interface that is gone", BOOKED, || {
        let table = node.netns().run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        Ok((!table.contains(&plan.interface())).then_some(()))
    })?;
    api.delete("pods", &plan.spec.namespace, name);
    Ok(u64::from(TIMES))
}

/// The API server fails in one of several ways; the one before is over.
fn fail(api: &ApiServer, number: u32) {
    api.heal();
    match number % 4 {
        0 => api.hang_up(),
        1 => {
            let status = Fault::Status { code: 503, reason: "ServiceUnavailable", retry_after: None };
            api.fault(Match::resource("pods").verb(Verb::Watch).times(2), status);
            api.hang_up();
        }
        2 => api.fault(
            Match::resource("pods").verb(Verb::Watch).times(1),
            Fault::CutWatch(Duration::from_millis(100)),
        ),
        _ => api.compact(),
    }
    // A moment in which nothing is known.
    thread::sleep(Duration::from_millis(50));
}

/// A pod as the API server gives it, owned by one workload of its namespace.
fn object(plan: &PlannedPod, name: &str) -> Value {
    let spec = &plan.spec;
    let owner =
        json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": spec.namespace, "controller": true });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": spec.namespace, "ownerReferences": [owner] },
        "spec": { "nodeName": NODE_NAME, "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "podIPs": [{ "ip": plan.ipv4() }, { "ip": plan.ipv6() }] },
    })
}
