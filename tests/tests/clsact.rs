//! Filters of clsact, which kernels before 6.6 have instead of TCX links: where they sit, what puts them back, and
//! what is left of them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

#[path = "attached/hooks.rs"]
mod hooks;

use std::{ffi::OsString, net::SocketAddr, path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    programs::{
        SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions},
    },
};
use detector::datapath::OBJECT;
use detector_ebpf::names;
use detector_tests::{
    bpffs::Bpffs,
    clients,
    daemon::{self, Daemon},
    netns::{self, NetNs},
    node::{Node, Pod, PodSpec},
    wait,
};

/// The daemon puts its attachments right every ten seconds at most.
const REPAIR: Duration = Duration::from_secs(40);
const WORD: Duration = Duration::from_secs(30);

struct Site {
    folder: tempfile::TempDir,
    bpffs: Bpffs,
    pod: Pod,
    other: Pod,
    node: Node,
}

impl Site {
    fn new() -> Self {
        let mut node = Node::new().unwrap();
        let pod = node.pod(PodSpec::new("agents", "pod")).unwrap();
        let other = node.pod(PodSpec::new("agents", "other")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        Self { folder, bpffs: Bpffs::new().unwrap(), pod, other, node }
    }

    fn host(&self) -> &NetNs {
        self.node.netns()
    }

    /// The host end of the pod's interface.
    fn interface(&self) -> String {
        self.pod.plan().interface()
    }

    fn daemon(&self, mut arguments: Vec<OsString>) -> Daemon<'_> {
        arguments.push("--hook=clsact".into());
        let daemon = Daemon::start_with(&self.node, &daemon::binary().unwrap(), &arguments, None).unwrap();
        assert_eq!(hooks::in_use(&daemon), "clsact");
        daemon
    }

    fn pinned(&self) -> Daemon<'_> {
        self.daemon(Daemon::pinned_arguments(self.folder.path(), &self.bpffs.pins()))
    }

    fn unpinned(&self) -> Daemon<'_> {
        self.daemon(Daemon::arguments(self.folder.path()))
    }

    /// What `plainsight detach` says.
    fn detach(&self, pins: &Path) -> String {
        let mut command = self.host().command(daemon::binary().unwrap());
        let output = command.arg("detach").arg("--pin").arg(pins).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn attached(&self) -> [usize; 2] {
        hooks::attached(self.host(), &self.interface())
    }

    /// Whether our filter is the first of both hooks, and the only one of ours.
    fn in_front(&self) -> bool {
        hooks::DIRECTIONS.iter().all(|direction| {
            let there = hooks::filters(self.host(), &self.interface(), direction);
            hooks::ours(&there) == 1
                && there.first().is_some_and(|first| hooks::ours(std::slice::from_ref(first)) == 1)
        })
    }

    /// Waits until our filters are the first again, and the daemon says so.
    fn wait_restored(&self, daemon: &Daemon<'_>, times: u64) {
        wait::until("the place restored", REPAIR, || {
            let restored = daemon.scrape()?.sum("plainsight_attachments_restored_total", &[]);
            Ok((self.in_front() && restored >= times).then_some(()))
        })
        .unwrap_or_else(|error| {
            panic!("{error:#}: {:?}", hooks::filters(self.host(), &self.interface(), "ingress"))
        });
    }
}

/// A program of somebody else, in front of all filters of its priority on both hooks for as long as it lives.
fn rival(site: &Site, priority: u16) -> Ebpf {
    let mut ebpf = EbpfLoader::new().load(OBJECT).unwrap();
    // It is nobody's flow that it removes: its maps are its own, and empty.
    let program: &mut SchedClassifier = ebpf.program_mut(names::EXPIRE).unwrap().try_into().unwrap();
    program.load().unwrap();
    let interface = site.interface();
    site.host()
        .run(|| {
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                let options = NlOptions { priority, ..NlOptions::default() };
                program.attach_with_options(&interface, hook, TcAttachOptions::Netlink(options))?;
            }
            Ok(())
        })
        .unwrap();
    ebpf
}

#[test]
fn the_first_place_is_taken_back_and_what_was_removed_is_put_there_again() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let mut daemon = site.pinned();
    assert!(site.in_front());

    // Whoever comes later sits in front, until it is noticed.
    let rival = rival(&site, 1);
    site.wait_restored(&daemon, 1);
    let there = hooks::filters(site.host(), &site.interface(), "ingress");
    assert_eq!(there.len(), 2, "the other is still there: {there:?}");
    // By their links' end they go from a thread of the wrong namespace, which is nobody's business here.
    std::mem::forget(rival);

    // A CNI that begins anew takes everything away.
    hooks::tc(site.host(), &["qdisc", "del", "dev", &site.interface(), "clsact"]);
    site.wait_restored(&daemon, 2);

    let address = SocketAddr::new(site.other.ip(), 8080);
    let mut health = clients::serve_health(&site.other, address).unwrap();
    clients::wait_for_server(&site.other, &mut health, 8080).unwrap();
    clients::curl(&site.pod, &format!("http://{address}/"), &[]).unwrap().succeed(WORD).unwrap();
    daemon
        .wait_for("the flow", WORD, |record| {
            record.text("verdict") == "plaintext" && record.client.name() == "agents/pod"
        })
        .unwrap();
    daemon.stop().unwrap();
    assert_eq!(site.attached(), [1, 1], "they stay for the next daemon");
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_one_that_replaces_its_filters() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    for _kill in 0..2 {
        site.unpinned().kill().unwrap();
        assert_eq!(site.attached(), [1, 1], "nobody removes the filters of one that was killed");
    }
    site.unpinned().stop().unwrap();
    assert_eq!(site.attached(), [0, 0]);
    // One that goes on without another's pins is another's neighbour, and does not touch its filters.
    site.pinned().kill().unwrap();
    site.unpinned().kill().unwrap();
    assert_eq!(site.attached(), [2, 2]);
    assert_eq!(
        site.detach(Path::new("/sys/fs/bpf/no-such-pins")),
        "removed 0 links, 4 filters, 0 qdiscs, 0 maps\n"
    );
    assert_eq!(site.attached(), [1, 1]);
}

#[test]
fn an_interface_that_is_not_observed_any_more_is_released_by_the_next_daemon() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    site.pinned().kill().unwrap();
    let other = site.other.plan().interface();
    assert_eq!((site.attached(), hooks::attached(site.host(), &other)), ([1, 1], [1, 1]));
    let mut arguments = Daemon::pinned_arguments(site.folder.path(), &site.bpffs.pins());
    arguments.extend(["--interfaces".into(), OsString::from(&other)]);
    let daemon = site.daemon(arguments);
    assert_eq!((site.attached(), hooks::attached(site.host(), &other)), ([0, 0], [1, 1]));
    assert!(!hooks::has_clsact(site.host(), &site.interface()), "an empty qdisc of ours stays");
    daemon.stop().unwrap();
}

#[test]
fn detach_removes_a_qdisc_that_is_ours_and_empty_and_no_other() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let other = site.other.plan().interface();
    // One interface had a qdisc before.
    hooks::tc(site.host(), &["qdisc", "add", "dev", &other, "clsact"]);
    site.pinned().kill().unwrap();
    // What the next one finds there is known for ours all the same.
    site.pinned().stop().unwrap();
    assert_eq!(site.detach(&site.bpffs.pins()), "removed 0 links, 4 filters, 1 qdiscs, 6 maps\n");
    assert!(!hooks::has_clsact(site.host(), &site.interface()));
    assert!(hooks::has_clsact(site.host(), &other), "it was there before us");

    site.pinned().kill().unwrap();
    let rival = rival(&site, 7);
    assert_eq!(site.detach(&site.bpffs.pins()), "removed 0 links, 4 filters, 0 qdiscs, 6 maps\n");
    assert_eq!(hooks::filters(site.host(), &site.interface(), "ingress").len(), 1, "the other's filter");
    std::mem::forget(rival);
}

#[test]
fn without_pins_a_qdisc_of_ours_is_known_by_the_filters_in_it() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let (own, other) = (site.interface(), site.other.plan().interface());
    let has = || (hooks::has_clsact(site.host(), &own), hooks::has_clsact(site.host(), &other));
    // One interface had a qdisc before.
    hooks::tc(site.host(), &["qdisc", "add", "dev", &other, "clsact"]);
    site.unpinned().kill().unwrap();
    assert_eq!(has(), (true, true));
    // The next one goes on with it, and takes it away in the end.
    site.unpinned().stop().unwrap();
    assert_eq!(has(), (false, true), "the other was there before us");

    site.unpinned().kill().unwrap();
    let nowhere = Path::new("/sys/fs/bpf/no-such-pins");
    assert_eq!(site.detach(nowhere), "removed 0 links, 4 filters, 1 qdiscs, 0 maps\n");
    assert_eq!(has(), (false, true));

    // What somebody else uses stays, though we made it.
    site.unpinned().kill().unwrap();
    let rival = rival(&site, 7);
    assert_eq!(site.detach(nowhere), "removed 0 links, 4 filters, 0 qdiscs, 0 maps\n");
    assert_eq!(has(), (true, true));
    assert_eq!(hooks::filters(site.host(), &own, "ingress").len(), 1, "the other's filter");
    std::mem::forget(rival);
}

#[test]
fn an_interface_with_an_ingress_qdisc_is_refused_in_words() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    hooks::tc(site.host(), &["qdisc", "add", "dev", &site.interface(), "ingress"]);
    let daemon = site.daemon(Daemon::arguments(site.folder.path()));
    assert_eq!(site.attached(), [0, 0]);
    let log = daemon.stop().unwrap();
    assert!(log.contains("has an ingress qdisc, which has no egress"), "{log}");
    assert!(!hooks::has_clsact(site.host(), &site.interface()));
}
