//! A daemon ends, or is killed, and another goes on with what it has left: links, maps, and every connection that
//! was opened meanwhile.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

#[path = "attached/hooks.rs"]
mod hooks;
#[path = "restart/traffic.rs"]
mod traffic;

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use aya::maps::{self, Map, MapData};
use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    verdict::Verdict,
};
use detector_tests::{
    bpffs::Bpffs,
    daemon::{self, Daemon},
    netns,
    node::{NODE_ADDRESS, Node, Pod, PodSpec},
    wait,
};

use self::traffic::Traffic;

const LIMIT: Duration = Duration::from_secs(30);
/// Connections of each stretch of a run.
const STRETCH: u64 = 100;

struct Site {
    folder: tempfile::TempDir,
    bpffs: Bpffs,
    client: Pod,
    node: Node,
}

impl Site {
    fn new() -> Self {
        let mut node = Node::new().unwrap();
        let client = node.pod(PodSpec::new("agents", "client")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        Self { folder, bpffs: Bpffs::new().unwrap(), client, node }
    }

    fn daemon(&self, flags: &[&str]) -> Daemon<'_> {
        let mut arguments = Daemon::pinned_arguments(self.folder.path(), &self.bpffs.pins());
        // Every one of many connections is counted here: nothing may be passed over for the budget.
        arguments.push("--scan-budget=100".into());
        arguments.extend(flags.iter().map(OsString::from));
        Daemon::start_with(&self.node, &daemon::binary().unwrap(), &arguments, None).unwrap()
    }

    /// Runs another command of `plainsight` on the node.
    fn command(&self, arguments: &[&str]) -> Output {
        let mut command: Command = self.node.netns().command(daemon::binary().unwrap());
        command.args(arguments).arg("--pin").arg(self.bpffs.pins()).output().unwrap()
    }

    /// How many programs sit on the pod's interface, in either direction.
    fn attached(&self) -> [usize; 2] {
        self.attached_to(&self.client)
    }

    fn attached_to(&self, pod: &Pod) -> [usize; 2] {
        hooks::attached(self.node.netns(), &pod.plan().interface())
    }

    /// The one folder of maps.
    fn maps(&self) -> std::path::PathBuf {
        let maps = self.bpffs.maps().unwrap();
        assert_eq!(maps.len(), 1, "{maps:?}");
        maps[0].clone()
    }
}

type Edges = maps::HashMap<MapData, EdgeKey, EdgeValue>;

fn edges(folder: &Path) -> Edges {
    let map = Map::from_map_data(MapData::from_pin(folder.join("EDGES")).unwrap()).unwrap();
    Edges::try_from(map).unwrap()
}

/// Plaintext connections that a map of edges holds.
fn plaintext(edges: &Edges) -> u64 {
    let held = |(key, value): (EdgeKey, EdgeValue)| {
        if key.verdict == Verdict::Plaintext as u8 { value.entered - value.left } else { 0 }
    };
    edges.iter().map(|entry| held(entry.unwrap())).sum()
}

/// Plaintext connections that a daemon has told of.
fn told(daemon: &Daemon<'_>) -> u64 {
    series(daemon, "plainsight_connections_total", "verdict=\"plaintext\"")
}

fn series(daemon: &Daemon<'_>, name: &str, label: &str) -> u64 {
    let metrics = daemon.metrics().unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until a daemon has told of that many connections.
fn wait_told(daemon: &Daemon<'_>, made: u64) {
    wait::until(format!("{made} connections"), LIMIT, || Ok((told(daemon) >= made).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}; it told of {}", told(daemon)));
}

#[test]
fn no_connection_goes_unseen_through_kill_restart_and_a_change_of_layout() {
    if netns::require_root() {
        goes_on_by("best");
    }
}

#[test]
fn no_connection_goes_unseen_by_filters_of_clsact_either() {
    if netns::require_root() {
        goes_on_by("clsact");
    }
}

/// Those under way while the programs change, of which there are two and one after the other, may count with the old and
/// with the new: a few, however slow the machine.
#[track_caller]
fn assert_none_unseen(made: u64, seen: u64) {
    assert!((made..=made + 2 + made / 100).contains(&seen), "{made} made, {seen} seen");
}

fn goes_on_by(hook: &str) {
    let site = Site::new();
    let hook = format!("--hook={hook}");
    let address = SocketAddr::from((NODE_ADDRESS, 8000));
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let first = site.daemon(&[&hook, "--max-flows", "4096"]);
        let _ending = traffic.start(scope, &site.node, &site.client, address);
        traffic.more(STRETCH);
        first.kill().unwrap();
        assert_eq!(site.attached(), [1, 1], "the programs stay");
        traffic.more(STRETCH);

        let second = site.daemon(&[&hook, "--max-flows", "4096"]);
        traffic.more(STRETCH);
        assert_eq!(site.attached(), [1, 1], "the links were taken over, none was added");
        let log = second.stop().unwrap();
        assert!(log.contains("going on with links and maps"), "{log}");
        traffic.more(STRETCH);

        // The same build with room for more flows cannot use the map of flows, but can read it.
        let third = site.daemon(&[&hook, "--max-flows", "8192"]);
        traffic.more(STRETCH);
        assert_eq!(site.attached(), [1, 1]);
        let maps = site.maps();
        assert!(maps.to_str().unwrap().contains("-8192-"), "{maps:?}");
        assert_eq!(series(&third, "plainsight_forgotten_total", ""), 0);
        let made = traffic.end();
        wait_told(&third, made);
        assert_none_unseen(made, told(&third));
        assert!(third.stop().unwrap().contains("maps of another layout"));
    });
}

#[test]
fn what_another_build_has_counted_is_forgotten_with_its_number_and_nothing_after_it() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let address = SocketAddr::from((NODE_ADDRESS, 8000));
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let first = site.daemon(&[]);
        let _ending = traffic.start(scope, &site.node, &site.client, address);
        traffic.more(STRETCH);
        first.kill().unwrap();
        // As a build left it whose flows and edges are others.
        let maps = site.maps();
        let foreign = maps.with_file_name("maps-0123456789abcdef-32768-16384");
        fs::rename(&maps, &foreign).unwrap();
        let old = edges(&foreign);
        traffic.more(STRETCH);

        let second = site.daemon(&[]);
        traffic.more(STRETCH);
        let made = traffic.end();
        assert_eq!(site.attached(), [1, 1]);
        assert!(!foreign.exists());
        let before = plaintext(&old);
        assert!(before >= 2 * STRETCH, "{before}");
        wait_told(&second, made - before);
        let seen = before + told(&second);
        assert_none_unseen(made, seen);
        assert!(series(&second, "plainsight_forgotten_total", "map=\"edges\"") > 0);
        let log = second.stop().unwrap();
        assert!(log.contains("maps of another layout"), "{log}");
    });
}

#[test]
fn edges_of_the_daemon_before_are_told_again_with_all_that_they_counted() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let address = SocketAddr::from((NODE_ADDRESS, 8000));
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let first = site.daemon(&[]);
        let _ending = traffic.start(scope, &site.node, &site.client, address);
        traffic.more(STRETCH);
        let made = traffic.end();
        wait_told(&first, made);
        first.stop().unwrap();
        let second = site.daemon(&[]);
        wait_told(&second, made);
        assert_eq!(told(&second), made);
        assert_eq!(plaintext(&edges(&site.maps())), made);
        let opened = series(&second, "plainsight_kernel_events_total", "reason=\"opened\"");
        assert!(opened >= made, "the kernel's counters go on: {opened}");
    });
}

#[test]
fn detach_leaves_nothing_behind_after_a_crash_and_refuses_while_a_daemon_runs() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let daemon = site.daemon(&[]);
    assert_eq!(site.attached(), [1, 1]);
    let hook = hooks::in_use(&daemon);
    let refused = site.command(&["detach"]);
    assert!(!refused.status.success());
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("another daemon holds the pins"), "{message}");
    assert_eq!(site.attached(), [1, 1]);
    daemon.kill().unwrap();
    assert_eq!(site.attached(), [1, 1]);
    let output = site.command(&["detach"]);
    assert!(output.status.success(), "{output:?}");
    let held = if hook == "tcx" { "2 links, 0 filters, 0 qdiscs" } else { "0 links, 2 filters, 1 qdiscs" };
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("removed {held}, 6 maps\n"));
    assert!(!hooks::has_clsact(site.node.netns(), &site.client.plan().interface()));
    assert_eq!(site.attached(), [0, 0]);
    assert!(!site.bpffs.pins().exists());
    let again = site.command(&["detach"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "removed 0 links, 0 filters, 0 qdiscs, 0 maps\n");
}

#[test]
fn a_second_daemon_on_the_same_pins_is_refused() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let mut first = site.daemon(&[]);
    let output = site.command(&["run", "--listen", "127.0.0.1:9465"]);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("another daemon holds the pins"), "{log}");
    assert!(!first.ended().unwrap());
    assert_eq!(site.attached(), [1, 1]);
}

#[test]
fn interfaces_that_come_and_go_while_no_daemon_runs_are_accounted_for() {
    if !netns::require_root() {
        return;
    }
    let mut site = Site::new();
    let gone = site.node.pod(PodSpec::new("agents", "gone")).unwrap();
    let daemon = site.daemon(&[]);
    // What is pinned for each interface: two links, or the note that its qdisc is ours.
    let (pinned, each) = if hooks::in_use(&daemon) == "tcx" { ("links", 2) } else { ("qdiscs", 1) };
    assert_eq!(site.bpffs.names(pinned).unwrap().len(), 2 * each);
    daemon.kill().unwrap();
    let interface = gone.plan().interface();
    site.node.netns().ip(&format!("link delete {interface}")).unwrap();
    drop(gone);
    assert_eq!(site.bpffs.names(pinned).unwrap().len(), 2 * each, "empty shells");
    let late = site.node.pod(PodSpec::new("agents", "late")).unwrap();
    let daemon = site.daemon(&[]);
    let indices: HashMap<String, u32> = site
        .node
        .netns()
        .run(|| {
            let names = nix::net::if_::if_nameindex()?;
            Ok(names.iter().map(|one| (one.name().to_string_lossy().into_owned(), one.index())).collect())
        })
        .unwrap();
    let mut wanted: Vec<String> = [&site.client, &late]
        .into_iter()
        .map(|pod| indices[&pod.plan().interface()])
        .flat_map(|index| match pinned {
            "links" => vec![format!("{index}-egress"), format!("{index}-ingress")],
            _ => vec![index.to_string()],
        })
        .collect();
    wanted.sort();
    assert_eq!(site.bpffs.names(pinned).unwrap(), wanted);
    for pod in [&site.client, &late] {
        assert_eq!(site.attached_to(pod), [1, 1]);
    }
    daemon.stop().unwrap();
}
