//! Owns the rows of the daemon itself: memory, time to word of it, and CPU time under new connections.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use detector_tests::{
    apiserver::ApiServer,
    daemon::{self, Daemon},
    node::NODE_NAME,
};

use crate::{
    Effort, machine, payloads,
    report::{Bar, Row, Unit},
    stats::Figure,
    traffic::Pair,
};

const MIB: f64 = 1024.0 * 1024.0;

/// A pod as the API server gives it, some hundred to a workload.
fn pod(number: u32) -> String {
    let [_, high, middle, low] = number.to_be_bytes();
    let (workload, node) = (number / 100, if number < 100 { 0 } else { number / 30 });
    let node = if node == 0 { NODE_NAME.to_owned() } else { format!("node-{node}") };
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"app-{workload}-6d4cf56db6-{number:05x}","namespace":"team-{team}","uid":"00000000-0000-4000-8000-{number:012x}","labels":{{"app":"app-{workload}","pod-template-hash":"6d4cf56db6","version":"v1"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"app-{workload}-6d4cf56db6","controller":true,"uid":"00000000-0000-4000-9000-{workload:012x}"}}]}},"spec":{{"nodeName":"{node}","serviceAccountName":"app-{workload}","containers":[{{"name":"main","image":"example.invalid/app","ports":[{{"name":"http","containerPort":8080}}]}}]}},"status":{{"phase":"Running","hostIP":"172.18.0.2","podIP":"10.{high}.{middle}.{low}","podIPs":[{{"ip":"10.{high}.{middle}.{low}"}}]}}}}"#,
        team = workload % 300,
    )
}

/// Writes pods as `kubectl get pods -A -o json` prints them.
fn write_pods(folder: &Path, count: u32) -> Result<()> {
    const EACH: u32 = 5000;
    for first in (0..count).step_by(EACH as usize) {
        let pods: Vec<String> = (first..count.min(first + EACH)).map(pod).collect();
        let text = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, pods.join(","));
        let path = folder.join(format!("pods-{first:07}.json"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Waits until resident memory no longer grows, and gives it.
fn settled_memory(daemon: &Daemon<'_>) -> Result<u64> {
    const QUIET: u32 = 4;
    let mut last = 0;
    let mut quiet = 0;
    for _ in 0..60 {
        thread::sleep(Duration::from_millis(500));
        let now = machine::resident(daemon.id())?;
        quiet = if now.abs_diff(last) < 256 * 1024 { quiet + 1 } else { 0 };
        last = now;
        if quiet == QUIET {
            break;
        }
    }
    Ok(last)
}

pub(crate) fn memory(effort: Effort) -> Result<Vec<Row>> {
    let binary = daemon::binary()?;
    let pair = Pair::new()?;
    // An idle node's interfaces: what makes them pods' is that their other end is elsewhere.
    for number in 0..98 {
        let name = pair.client.netns().name();
        pair.node
            .netns()
            .ip(&format!("link add veth{number} type veth peer name idle{number} netns {name}"))?;
    }
    let mut rows = Vec::new();
    for (pods, most) in [(100_u32, 24.0), (effort.pick(20_000, 150_000), 64.0)] {
        eprintln!("    {pods} pods");
        let folder = tempfile::tempdir().context("make a folder")?;
        write_pods(folder.path(), pods)?;
        let start = Instant::now();
        let daemon = Daemon::start(&pair.node, &binary, folder.path(), None)?;
        let started = start.elapsed();
        let resident = settled_memory(&daemon)? as f64 / MIB;
        let known = sample(&daemon.metrics()?, "plainsight_identities{kind=\"pod");
        let what = if pods == 100 {
            "resident memory, idle node with 100 pods".to_owned()
        } else {
            format!("resident memory, {pods} pods known")
        };
        let row = Row::new(format!("resident-{pods}"), what, Figure::exact(resident), Unit::Mebibytes)
            .beside("at its peak", machine::resident_peak(daemon.id())? as f64 / MIB, Unit::Mebibytes)
            .beside("ready after", started.as_secs_f64() * 1e3, Unit::Milliseconds)
            .note(format!("{known:.0} pods by its own metric"));
        rows.push(row.bar(Bar::AtMost(most)));
        if pods == 100 {
            let (maps, programs) = machine::bpf_memory(daemon.id())?;
            rows.push(
                Row::new(
                    "maps",
                    "kernel memory of all maps at defaults",
                    Figure::exact(maps as f64 / MIB),
                    Unit::Mebibytes,
                )
                .beside("programs", programs as f64 / MIB, Unit::Mebibytes)
                .bar(Bar::AtMost(16.0))
                .note(format!("{} CPUs", machine::cpus())),
            );
        }
        daemon.stop()?;
    }
    rows.push(memory_of_a_watch(&pair, &binary, effort.pick(20_000, 150_000))?);
    Ok(rows)
}

/// The same pods, from the API server.
fn memory_of_a_watch(pair: &Pair, binary: &Path, pods: u32) -> Result<Row> {
    const LIMIT: Duration = Duration::from_secs(300);
    eprintln!("    {pods} pods of the API server");
    let api = pair.node.netns().run(ApiServer::start)?;
    for first in (0..pods).step_by(1_000) {
        let objects: Result<Vec<_>, _> =
            (first..pods.min(first + 1_000)).map(|number| serde_json::from_str(&pod(number))).collect();
        api.apply_all(objects.context("read a pod")?);
    }
    let folder = tempfile::tempdir().context("make a folder")?;
    let arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path())?);
    let start = Instant::now();
    let daemon = Daemon::start_within(LIMIT, &pair.node, binary, &arguments, None)?;
    let started = start.elapsed();
    let resident = settled_memory(&daemon)? as f64 / MIB;
    let known = sample(&daemon.metrics()?, "plainsight_identities{kind=\"pod");
    let row = Row::new(
        format!("resident-watch-{pods}"),
        format!("resident memory, {pods} pods known from the API server"),
        Figure::exact(resident),
        Unit::Mebibytes,
    )
    .bar(Bar::AtMost(64.0))
    .beside("at its peak", machine::resident_peak(daemon.id())? as f64 / MIB, Unit::Mebibytes)
    .beside("ready after", started.as_secs_f64() * 1e3, Unit::Milliseconds)
    .note(format!("{known:.0} pods by its own metric"));
    daemon.stop()?;
    Ok(row)
}

/// The sum of a metric's series whose line begins like this.
fn sample(metrics: &str, start: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(start));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

pub(crate) fn latency(effort: Effort) -> Result<Vec<Row>> {
    const LIMIT: Duration = Duration::from_secs(10);
    const MOST: f64 = 100.0;
    let binary = daemon::binary()?;
    let pair = Pair::new()?;
    let folder = tempfile::tempdir().context("make a folder")?;
    pair.node.manifests(folder.path(), "")?;
    let mut daemon = Daemon::start(&pair.node, &binary, folder.path(), None)?;
    let request = payloads::mcp_request(256);
    let response = payloads::http_response();
    let (mut lines, mut metrics) = (Vec::new(), Vec::new());
    for port in 8000..effort.pick(8008_u16, 8040) {
        pair.serve_once(port, request.len(), response.clone())?;
        let address = SocketAddr::new(pair.server.ip(), port);
        let before = sample(&daemon.metrics()?, "plainsight_findings_total");
        let stream = pair.client.netns().run(|| Ok(TcpStream::connect(address)?))?;
        stream.set_nodelay(true)?;
        let start = Instant::now();
        (&stream).write_all(&request)?;
        (&stream).read_to_end(&mut Vec::new())?;
        let (mut line, mut metric) = (None, None);
        while line.is_none() || metric.is_none() {
            if start.elapsed() > LIMIT {
                bail!("no word of the request to port {port} within {} s", LIMIT.as_secs());
            }
            if daemon.ended()? {
                bail!("plainsight ended\n{}", daemon.output());
            }
            if line.is_none()
                && daemon.records().iter().any(|record| record.is_finding() && record.port == u64::from(port))
            {
                line = Some(start.elapsed());
            }
            if metric.is_none() && sample(&daemon.metrics()?, "plainsight_findings_total") > before {
                metric = Some(start.elapsed());
            }
            thread::sleep(Duration::from_micros(500));
        }
        for (all, one) in [(&mut lines, line), (&mut metrics, metric)] {
            all.extend(one.map(|took| took.as_secs_f64() * 1e3));
        }
        // Somewhere else within the daemon's own rhythm.
        thread::sleep(Duration::from_millis(37));
    }
    daemon.stop()?;
    let row = |id: &str, what: &str, all: &[f64]| {
        Row::new(id, what, Figure::of(all.iter().copied()), Unit::Milliseconds)
            .bar(Bar::AtMost(MOST))
            .beside("at most", all.iter().copied().fold(0.0, f64::max), Unit::Milliseconds)
            .beside("at least", all.iter().copied().fold(f64::INFINITY, f64::min), Unit::Milliseconds)
    };
    Ok(vec![
        row("latency-line", "from the deciding packet to the finding's line", &lines),
        row("latency-metric", "from the deciding packet to the finding's metric", &metrics),
    ])
}

pub(crate) fn cpu(effort: Effort) -> Result<Vec<Row>> {
    /// Connections a second that are wanted.
    const RATE: u32 = 20_000;
    /// Each is seen on the interface of the client and on that of the server: 100 edges.
    const PORTS: u16 = 50;
    const MOST: f64 = 3.0;
    let binary = daemon::binary()?;
    let pair = Pair::new()?;
    let folder = tempfile::tempdir().context("make a folder")?;
    pair.node.manifests(folder.path(), "")?;
    let daemon = Daemon::start(&pair.node, &binary, folder.path(), None)?;
    let (hello, answer) = (payloads::client_hellos()?.short, payloads::server_hello());
    let (request, response) = (payloads::mcp_request(256), payloads::http_response());
    let mut ports = Vec::new();
    for port in 8000..8000 + PORTS {
        let (said, answered) = if port % 2 == 0 { (&hello, &answer) } else { (&request, &response) };
        pair.serve_once(port, said.len(), answered.clone())?;
        ports.push((port, said.clone()));
    }
    let lasting = Duration::from_secs(effort.pick(3, 15));
    let mut idle = 0.0;
    let mut busy = 0.0;
    let share = |into: &mut f64, lasting: Duration| -> Result<()> {
        let (before, start) = (machine::cpu_time_of(daemon.id())?, Instant::now());
        thread::sleep(lasting);
        let spent = machine::cpu_time_of(daemon.id())?.saturating_sub(before);
        *into = spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        Ok(())
    };
    share(&mut idle, lasting / 3)?;
    let reached = pair.storm(&ports, RATE, lasting, 8, || share(&mut busy, lasting))?;
    let edges = sample(&daemon.metrics()?, "plainsight_flows ");
    daemon.stop()?;
    Ok(vec![
        Row::new(
            "cpu",
            "user-space CPU at 20,000 new connections a second over 100 edges, of one core",
            Figure::exact(busy),
            Unit::Percent,
        )
        .bar(Bar::AtMost(MOST))
        .beside("reached here", reached, Unit::PerSecond)
        .beside("idle", idle, Unit::Percent)
        .note(format!("each connection passes two interfaces; {edges:.0} flows remembered")),
    ])
}
