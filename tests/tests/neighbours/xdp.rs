//! XDP programs on a pod's interface, which get what the pod sends before ours do.

use std::time::Duration;

use detector_tests::{
    daemon::Daemon,
    neighbour::{Frames, Neighbour, Xdp},
};

use super::rig::{Expected, NOTICED, SERVER, Site, wait_told};

/// Every 30 s the daemon looks for what it was not told of.
const DUMPED: Duration = Duration::from_secs(45);

fn wait_xdp(site: &Site, daemon: &Daemon<'_>) {
    site.wait_coverage(daemon, NOTICED, "agents/client", Expected::Not(&site.interface(), "xdp"));
}

/// Gives an interface the XDP program that is pinned, or takes it off.
fn set(site: &Site, mode: &str, program: &str) {
    site.node.netns().ip(&format!("link set dev {} {mode} {program}", site.interface())).unwrap();
}

#[test]
fn an_xdp_program_makes_coverage_doubtful_and_what_it_passes_is_seen() {
    let Some(site) = Site::new() else { return };
    let pass = Neighbour::load_xdp(Frames::Pass).unwrap();
    // By a link of BPF, in the driver: found when interfaces are listed.
    let link = pass.attach_xdp(site.node.netns(), &site.interface(), Xdp::Native).unwrap();
    let daemon = site.daemon();
    wait_xdp(&site, &daemon);
    site.talk(5);
    wait_told(&daemon, 5);
    drop(link);
    site.wait_coverage(&daemon, DUMPED, "agents/client", Expected::Observed(&site.interface()));
    // By netlink, of which word comes at once.
    let path = site.bpffs.pins().with_file_name("pass");
    pass.pin(&path).unwrap();
    let pinned = format!("pinned {}", path.display());
    for mode in ["xdpgeneric", "xdpdrv"] {
        set(&site, mode, &pinned);
        wait_xdp(&site, &daemon);
        set(&site, mode, "off");
        site.wait_observed(&daemon);
    }
    site.talk(5);
    wait_told(&daemon, 10);
    let log = daemon.stop().unwrap();
    assert_eq!(log.matches("an XDP program gets what the pod sends before ours").count(), 3, "{log}");
}

#[test]
fn what_xdp_drops_is_not_seen_and_the_pod_is_not_said_to_be_observed() {
    let Some(site) = Site::new() else { return };
    let daemon = site.observing();
    let path = site.bpffs.pins().with_file_name("drop");
    Neighbour::load_xdp(Frames::Drop).unwrap().pin(&path).unwrap();
    set(&site, "xdpgeneric", &format!("pinned {}", path.display()));
    wait_xdp(&site, &daemon);
    let opened = || daemon.scrape().unwrap().kernel("opened");
    let before = opened();
    assert!(!site.client.attempt(SERVER, Duration::from_millis(300)).unwrap(), "its frames are dropped");
    assert_eq!(opened(), before, "its SYN did not come to our programs");
    set(&site, "xdpgeneric", "off");
    site.wait_observed(&daemon);
    site.talk(5);
    wait_told(&daemon, 5);
    daemon.stop().unwrap();
}
