//! A node with a client in a pod and a server on the node itself, so that a connection passes one pod's interface
//! alone; the daemon on it; and what it says of its coverage, by each of the ways that a user asks.

use std::{ffi::OsString, fs, net::SocketAddr, thread, time::Duration};

use detector_tests::{
    bpffs::Bpffs,
    daemon::{self, ADMIN, Daemon},
    exchange::{Server, Talk},
    neighbour::{self, Attached, Hook, Link},
    netns,
    node::{NODE_ADDRESS, Node, Pod, PodSpec},
    wait,
};

/// From a change to true coverage where the daemon is to notice by itself: it looks once a second. What is over is
/// for a busy machine, and less than the 10 s after which it would try again anyway.
pub(crate) const NOTICED: Duration = Duration::from_secs(9);
/// From a change to true coverage where something has to be tried again first, every 10 s.
pub(crate) const TRIED_AGAIN: Duration = Duration::from_secs(40);
/// From traffic to word of it.
pub(crate) const WORD: Duration = Duration::from_secs(30);

/// The server on the node.
pub(crate) const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_ADDRESS), 8000);

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) bpffs: Bpffs,
    pub(crate) client: Pod,
    _server: Server,
    pub(crate) node: Node,
}

impl Site {
    /// None, and word of it, without the privileges for one.
    pub(crate) fn new() -> Option<Self> {
        if !netns::require_root() {
            return None;
        }
        let mut node = Node::new().unwrap();
        let client = node.pod(PodSpec::new("agents", "client")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        let server = Server::listen(node.netns(), SERVER.port()).unwrap();
        Some(Self { folder, bpffs: Bpffs::new().unwrap(), client, _server: server, node })
    }

    /// [`Self::daemon`], once it observes the client.
    pub(crate) fn observing(&self) -> Daemon<'_> {
        let daemon = self.daemon();
        self.wait_observed(&daemon);
        daemon
    }

    pub(crate) fn wait_observed(&self, daemon: &Daemon<'_>) {
        self.wait_coverage(daemon, NOTICED, "agents/client", Expected::Observed(&self.interface()));
    }

    /// A daemon that pins, so that what it leaves there can be counted.
    pub(crate) fn daemon(&self) -> Daemon<'_> {
        let mut arguments = Daemon::pinned_arguments(self.folder.path(), &self.bpffs.pins());
        // Every connection counts here: none may be passed over for the budget.
        arguments.push(OsString::from("--scan-budget=100"));
        Daemon::start_with(&self.node, &daemon::binary().unwrap(), &arguments, None).unwrap()
    }

    pub(crate) fn interface(&self) -> String {
        self.client.plan().interface()
    }

    /// The programs on one hook of the client's interface.
    pub(crate) fn programs(&self, hook: Hook) -> Vec<Attached> {
        neighbour::attached(self.node.netns(), &self.interface(), hook).unwrap()
    }

    /// Makes `times` plaintext connections from the client to the server.
    pub(crate) fn talk(&self, times: u32) {
        self.client.talk(SERVER, Talk::Mcp, times).unwrap();
    }

    /// Waits until the daemon says of a pod what is expected: by its page, its metric and `plainsight coverage`.
    pub(crate) fn wait_coverage(
        &self,
        daemon: &Daemon<'_>,
        limit: Duration,
        pod: &str,
        expected: Expected<'_>,
    ) {
        let wanted = expected.line(pod);
        wait::until(&wanted, limit, || Ok(self.says(daemon, &wanted).then_some(()))).unwrap_or_else(
            |error| {
                let (page, metrics) = (daemon.readiness().unwrap(), daemon.metrics().unwrap());
                panic!("{error:#}\n{page}\n{metrics}\n{}", daemon.output())
            },
        );
    }

    /// Whether a line of coverage is on the page, the metric agrees with the page, and `plainsight coverage` says
    /// the line too.
    pub(crate) fn says(&self, daemon: &Daemon<'_>, wanted: &str) -> bool {
        let page = daemon.readiness().unwrap();
        if !page.lines().any(|line| line.starts_with(wanted)) {
            return false;
        }
        let metrics = daemon.metrics().unwrap();
        let agrees = |reason: &&str| {
            let in_page = match *reason {
                "observed" => page.matches("\nobserved ").count(),
                reason => page.matches(&format!(": {reason}, ")).count(),
            };
            metrics.contains(&format!("plainsight_node_pods{{coverage=\"{reason}\"}} {in_page}\n"))
        };
        let mut command = self.node.netns().command(daemon::binary().unwrap());
        let told = command.args(["coverage", "--admin", &ADMIN.to_string()]).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        ["observed", "no-interface", "not-selected", "attach-refused", "displaced", "xdp"].iter().all(agrees)
            && told.lines().any(|line| line.starts_with(wanted))
    }
}

/// What coverage is to say of a pod.
#[derive(Clone, Copy)]
pub(crate) enum Expected<'a> {
    Observed(&'a str),
    Not(&'a str, &'a str),
}

impl Expected<'_> {
    /// How the line of a pod begins.
    pub(crate) fn line(self, pod: &str) -> String {
        match self {
            Self::Observed(interface) => format!("observed      {pod} on {interface}"),
            Self::Not(interface, reason) => format!("not observed  {pod} on {interface}: {reason}, "),
        }
    }
}

/// What a daemon holds in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Pinned links, by name.
    pub(crate) pins: Vec<String>,
    /// Links that the process has open.
    pub(crate) links: usize,
    /// File descriptors of the process, of any kind.
    pub(crate) files: usize,
}

/// The least of some looks: files that are read from time to time are not held.
pub(crate) fn held(site: &Site, daemon: &Daemon<'_>) -> Held {
    let look = || {
        thread::sleep(Duration::from_millis(20));
        held_now(site, daemon)
    };
    (0..4).map(|_look| look()).min_by_key(|held| held.files).unwrap()
}

fn held_now(site: &Site, daemon: &Daemon<'_>) -> Held {
    let targets: Vec<String> = fs::read_dir(format!("/proc/{}/fd", daemon.id()))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    Held {
        pins: site.bpffs.names("links").unwrap(),
        links: targets.iter().filter(|target| target.contains("bpf_link")).count(),
        files: targets.len(),
    }
}

/// Plaintext connections that the daemon has told of.
pub(crate) fn told(daemon: &Daemon<'_>) -> u64 {
    daemon.scrape().unwrap().sum("plainsight_connections_total", &["verdict=\"plaintext\""])
}

/// Times that the daemon says it has taken its place again.
pub(crate) fn restored(daemon: &Daemon<'_>) -> u64 {
    daemon.scrape().unwrap().sum("plainsight_attachments_restored_total", &[])
}

/// Waits until neighbours are where they were put, each by its link, and another program is in front of each.
pub(crate) fn wait_behind<'a>(
    site: &Site,
    limit: Duration,
    neighbours: impl Iterator<Item = (&'a str, Hook, &'a Link)> + Clone,
) {
    wait::until("ours in front again", limit, || {
        for (interface, hook, link) in neighbours.clone() {
            let there = neighbour::attached(site.node.netns(), interface, hook)?;
            if there.len() != 2 || there[1].link != link.id()? {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .unwrap();
}

/// Waits until the daemon has told of so many connections, and gives what it told of a moment after: none is
/// counted twice.
pub(crate) fn wait_told(daemon: &Daemon<'_>, wanted: u64) {
    wait::until(format!("{wanted} connections"), WORD, || Ok((told(daemon) >= wanted).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}; it told of {}", told(daemon)));
    assert_eq!(told(daemon), wanted);
}
