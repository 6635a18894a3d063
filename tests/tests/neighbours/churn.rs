//! Interfaces by the hundred: a thousand come and go within a minute, and more at once than the kernel can tell of.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use detector_tests::{exchange::Talk, netns::NetNs, node::PodSpec, wait};
use nix::sys::signal::Signal;

use super::rig::{Expected, NOTICED, SERVER, Site, held, wait_told};

/// Interfaces in all. They are made at a pace of a third of [`MINUTE`], by a machine that is not busy otherwise; one
/// that is takes longer for making them, which is not the daemon's doing: how long it took is printed.
const INTERFACES: u32 = 1_000;
const ROUND: u32 = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// The group by which the interfaces of a round are removed together, as a node's restart would.
const GROUP: u32 = 77;
/// What memory may grow by in the second half, in KiB: what a leak of 8 KiB an interface would add.
const GROWTH: u64 = 4 * 1024;

/// Runs many commands of `ip` in one process.
fn batch(host: &NetNs, folder: &Path, commands: &str) {
    let path = folder.join("batch");
    fs::write(&path, commands).unwrap();
    let output = std::process::Command::new("ip")
        .args(["-n", host.name(), "-batch", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a round of interfaces, each with its route, and their peers in `yard`.
fn make(host: &NetNs, folder: &Path, yard: &NetNs, round: u32, count: u32) {
    let mut commands = String::new();
    for one in 0..count {
        let name = format!("churn{round}x{one}");
        let yard = yard.name();
        writeln!(commands, "link add {name} group {GROUP} up type veth peer name {name} netns {yard}")
            .unwrap();
        writeln!(commands, "route add 10.9.{round}.{one}/32 dev {name}").unwrap();
    }
    batch(host, folder, &commands);
}

fn remove(host: &NetNs) {
    host.ip(&format!("link delete group {GROUP}")).unwrap();
}

/// Interfaces that the daemon says it is attached to.
fn wait_attached(daemon: &detector_tests::daemon::Daemon<'_>, wanted: u64, limit: Duration) {
    let attached = || anyhow::Ok(daemon.scrape()?.sum("plainsight_interfaces_attached", &[]));
    wait::until(format!("{wanted} interfaces"), limit, || Ok((attached()? == wanted).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}: {}", attached().unwrap()));
}

#[test]
fn a_thousand_interfaces_in_a_minute_cost_nothing_that_stays_and_hide_no_pod() {
    let Some(mut site) = Site::new() else { return };
    let late = site.node.plan(PodSpec::new("agents", "late")).unwrap();
    site.node.manifests(site.folder.path(), "").unwrap();
    let yard = NetNs::new(format!("{}z", site.client.netns().name())).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let daemon = site.daemon();
    let host = site.node.netns();
    site.wait_observed(&daemon);
    // What one round leaves behind in buffers is no leak.
    make(host, scratch.path(), &yard, 0, ROUND);
    wait_attached(&daemon, 1 + u64::from(ROUND), MINUTE);
    remove(host);
    wait_attached(&daemon, 1, MINUTE);
    site.talk(1);
    wait_told(&daemon, 1);
    let before = held(&site, &daemon);

    let (start, mut made, mut talked) = (Instant::now(), 0, 1);
    // What it holds at most in a half of the rounds: buffers have their size by the end of the first.
    let mut most = [daemon.anonymous().unwrap(); 2];
    let mut pod = None;
    for round in 1..=INTERFACES / ROUND {
        make(host, scratch.path(), &yard, round, ROUND);
        made += ROUND;
        if round == 4 {
            pod = Some(site.node.start(&late).unwrap());
        }
        site.talk(1);
        talked += 1;
        let half = &mut most[usize::from(round > INTERFACES / ROUND / 2)];
        *half = daemon.anonymous().unwrap().max(*half);
        // At a pace that leaves no two seconds without a change, and no round that is not seen at all.
        if let Some(pause) =
            (start + MINUTE * round / (INTERFACES / ROUND) / 3).checked_duration_since(Instant::now())
        {
            thread::sleep(pause);
        }
        remove(host);
        if round == 10 {
            // In the midst of it, a pod of a while ago is observed and its connections are seen.
            site.wait_coverage(&daemon, NOTICED, "agents/late", Expected::Observed(&late.interface()));
        }
    }
    let took = start.elapsed();
    assert_eq!(made, INTERFACES);
    pod.as_ref().unwrap().talk(SERVER, Talk::Mcp, 1).unwrap();
    wait_attached(&daemon, 2, MINUTE);
    site.wait_observed(&daemon);
    site.wait_coverage(&daemon, NOTICED, "agents/late", Expected::Observed(&late.interface()));
    wait_told(&daemon, talked + 1);
    let after = held(&site, &daemon);
    assert_eq!((after.pins.len(), after.links), (4, 4), "{:?}", after.pins);
    assert_eq!(after.files, before.files + 2, "the links of one pod more");
    let [first, second] = most;
    println!(
        "{made} interfaces in {took:?}; at most {first} KiB in the first half, {second} KiB in the second"
    );
    assert!(second.saturating_sub(first) < GROWTH, "{first} KiB grew to {second} KiB");
    let metrics = daemon.scrape().unwrap();
    let failures = metrics.sum("plainsight_interface_attach_failures_total", &[]);
    let log = daemon.stop().unwrap();
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("will try again")).take(5).collect();
    let observed = log.matches("attached ifindex=").count();
    println!("{observed} of {made} were observed before they went");
    assert!(observed > 100, "{observed}");
    assert_eq!(failures, 0, "what is gone is no failure: {failed:#?}");
}

#[test]
fn changes_without_end_do_not_put_off_that_a_pod_is_found() {
    let Some(mut site) = Site::new() else { return };
    let late = site.node.plan(PodSpec::new("agents", "late")).unwrap();
    site.node.manifests(site.folder.path(), "").unwrap();
    let yard = NetNs::new(format!("{}z", site.client.netns().name())).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let daemon = site.daemon();
    let (host, enough) = (site.node.netns(), AtomicBool::new(false));
    let _pod = thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(30);
            for round in 1.. {
                if enough.load(Ordering::Relaxed) || Instant::now() > end {
                    return;
                }
                make(host, scratch.path(), &yard, round % 250, 1);
                thread::sleep(Duration::from_millis(200));
                remove(host);
            }
        });
        let _enough = Enough(&enough);
        thread::sleep(Duration::from_secs(1));
        let pod = site.node.start(&late).unwrap();
        site.wait_coverage(&daemon, NOTICED, "agents/late", Expected::Observed(&late.interface()));
        pod
    });
    daemon.stop().unwrap();
}

/// Ends the changes, also when a test panics: a scope waits for its threads.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_the_kernel_had_no_room_to_tell_is_found_at_once() {
    let Some(mut site) = Site::new() else { return };
    let interface = site.interface();
    let gone = site.node.pod(PodSpec::new("agents", "gone")).unwrap();
    let late = site.node.plan(PodSpec::new("agents", "late")).unwrap();
    site.node.manifests(site.folder.path(), "").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let daemon = site.daemon();
    let host = site.node.netns();
    site.wait_coverage(&daemon, NOTICED, "agents/gone", Expected::Observed(&gone.plan().interface()));
    site.wait_coverage(&daemon, NOTICED, "agents/late", Expected::Not("-", "no-interface"));
    // Past what a dump after the last change would find by itself.
    thread::sleep(Duration::from_secs(3));

    // It cannot read, and the socket's buffer fills with what is no news to it.
    daemon.signal(Signal::SIGSTOP).unwrap();
    let noise: String = (0..400).map(|number| format!("link set lo mtu {}\n", 60_000 + number)).collect();
    batch(host, scratch.path(), &noise);
    let interface_gone = gone.plan().interface();
    host.ip(&format!("link delete {interface_gone}")).unwrap();
    let pod = site.node.start(&late).unwrap();
    // Its IPv6 address is told a second later, by which it would be found.
    thread::sleep(Duration::from_secs(3));
    daemon.signal(Signal::SIGCONT).unwrap();

    let limit = NOTICED;
    site.wait_coverage(&daemon, limit, "agents/late", Expected::Observed(&late.interface()));
    site.wait_coverage(&daemon, limit, "agents/gone", Expected::Not("-", "no-interface"));
    site.wait_coverage(&daemon, limit, "agents/client", Expected::Observed(&interface));
    pod.talk(SERVER, Talk::Mcp, 3).unwrap();
    wait_told(&daemon, 3);
    let held = held(&site, &daemon);
    assert_eq!((held.pins.len(), held.links), (4, 4), "{:?}", held.pins);
    let log = daemon.stop().unwrap();
    assert!(log.contains("the kernel had no room to tell of interfaces"), "{log}");
}
