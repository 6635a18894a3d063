//! Owns a node with a daemon, and a pod that floods it.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use detector_tests::{
    daemon::{self, Daemon},
    exchange::{Server, Talk},
    frames::{ACK, Frame, PSH, RST, SYN},
    metrics::Scrape,
    node::{NODE_NAME, Node, Pod, PodSpec},
    wait,
};

/// From traffic, or from the end of a flood, to word of it.
pub(crate) const WORD: Duration = Duration::from_secs(60);

/// What is set aside for measurements (RFC 2544): nobody's address.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

pub(crate) struct Rig {
    pub(crate) server: Pod,
    pub(crate) client: Pod,
    flooder: Pod,
    folder: tempfile::TempDir,
    pub(crate) node: Node,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut node = Node::new().unwrap();
        let mut pod = |namespace: &str, name: &str| node.pod(PodSpec::new(namespace, name)).unwrap();
        let (server, client, flooder) =
            (pod("tools", "server"), pod("agents", "client"), pod("lab", "flooder"));
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        Self { server, client, flooder, folder, node }
    }

    /// A daemon that watches all three pods.
    pub(crate) fn daemon(&self, flags: &[&str]) -> Daemon<'_> {
        let listen = daemon::ADMIN.to_string();
        let arguments = ["run", "--listen", &listen, "--node-name", NODE_NAME]
            .into_iter()
            .chain(flags.iter().copied())
            .map(OsString::from);
        let arguments: Vec<OsString> =
            arguments.chain(["--manifests".into(), self.folder.path().into()]).collect();
        let daemon =
            Daemon::start_within(WORD, &self.node, &daemon::binary().unwrap(), &arguments, None).unwrap();
        scrape_until(&daemon, "three pods", |scrape| scrape.sum("plainsight_interfaces_attached", &[]) == 3);
        daemon
    }

    fn frame(&self) -> Frame {
        Frame::tcp((NOBODY, 40_000).into(), SocketAddr::new(self.server.ip(), 80))
    }

    /// Opens a connection from each of so many addresses, and says no more.
    pub(crate) fn syns(&self, clients: u32) {
        self.flooder.flood(NOBODY, clients, &[self.frame().flags(SYN).seq(1_000).ack(0)]).unwrap();
    }

    /// Makes a connection from each of so many addresses, each an edge of its own: a request, and a reset.
    pub(crate) fn connections(&self, clients: u32) {
        let frames = [
            self.frame().flags(SYN).seq(1_000).ack(0),
            self.frame().flags(PSH | ACK).seq(1_001).payload("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            self.frame().flags(RST | ACK).seq(1_028),
        ];
        self.flooder.flood(NOBODY, clients, &frames).unwrap();
    }

    /// A tool is called in the clear, and told of: the daemon works.
    #[track_caller]
    pub(crate) fn finds_a_call(&self, daemon: &mut Daemon<'_>) {
        let _listening = Server::start(&self.server, 8000).unwrap();
        self.client.talk(SocketAddr::new(self.server.ip(), 8000), Talk::Mcp, 1).unwrap();
        daemon
            .wait_for("the call", WORD, |record| {
                record.text("id") == "plaintext-mcp" && record.client.name() == "agents/client"
            })
            .unwrap();
    }
}

/// Waits for a scrape that fits.
#[track_caller]
pub(crate) fn scrape_until(daemon: &Daemon<'_>, what: &str, fits: impl Fn(&Scrape) -> bool) -> Scrape {
    let scrape = || Ok(Some(daemon.scrape()?).filter(&fits));
    wait::until(what, WORD, scrape).unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.metrics().unwrap()))
}
