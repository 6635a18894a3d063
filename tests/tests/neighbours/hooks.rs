//! Other programs on the hooks of a pod's interface.

use std::{thread, time::Duration};

use anyhow::Context as _;
use detector_tests::{
    daemon::Daemon,
    neighbour::{self, Answer, HOOK_MAX, Hook, Link, Neighbour, Position},
    netns, wait,
};

use super::rig::{Expected, NOTICED, SERVER, Site, TRIED_AGAIN, held, restored, told, wait_told};

/// The link on the head of a hook.
fn first(site: &Site, hook: Hook) -> u32 {
    site.programs(hook).first().unwrap().link
}

/// Puts a program in front.
fn displace(site: &Site, neighbour: &Neighbour, hooks: &[Hook]) -> Vec<(Hook, Link)> {
    let attach = |hook| neighbour.attach(site.node.netns(), &site.interface(), hook, Position::Head).unwrap();
    hooks.iter().map(|hook| (*hook, attach(*hook))).collect()
}

/// Waits until neighbours are where they were put, and another program is in front of each.
fn wait_behind(site: &Site, limit: Duration, neighbours: &[(Hook, Link)]) {
    wait::until("ours in front again", limit, || {
        let behind = |(hook, link): &(Hook, Link)| {
            let there = site.programs(*hook);
            there.len() == 2 && there[1].link == link.id().unwrap()
        };
        Ok(neighbours.iter().all(behind).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_program_that_ends_the_chain_before_ours_is_noticed_and_then_it_is_behind_ours() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let interface = site.interface();
    let daemon = site.daemon();
    let observed = Expected::Observed(&interface);
    site.wait_coverage(&daemon, NOTICED, "agents/client", observed);
    let before = held(&site, &daemon);
    site.talk(10);
    wait_told(&daemon, 10);
    assert_eq!(restored(&daemon), 0);

    // It lets every packet pass, and none to whoever is behind it.
    let pass = Neighbour::load(Answer::Pass).unwrap();
    let links = displace(&site, &pass, &[Hook::Ingress]);
    wait_behind(&site, NOTICED, &links);
    wait::until("word of it", NOTICED, || Ok((restored(&daemon) == 1).then_some(()))).unwrap();
    site.wait_coverage(&daemon, NOTICED, "agents/client", observed);
    site.talk(10);
    wait_told(&daemon, 20);
    assert_eq!(held(&site, &daemon), before, "nothing is left of the place that was lost");

    // One that comes back at once is not fought without end: what it hides is told.
    drop(links);
    let links = displace(&site, &pass, &Hook::BOTH);
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Not(&interface, "displaced"));
    site.talk(10);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(told(&daemon), 20, "what it says is true: it sees nothing");
    assert_eq!(restored(&daemon), 1);
    // Later the place is taken again.
    wait_behind(&site, TRIED_AGAIN, &links);
    site.wait_coverage(&daemon, NOTICED, "agents/client", observed);
    assert_eq!(restored(&daemon), 2);
    site.talk(10);
    wait_told(&daemon, 30);

    // And where the neighbour goes by itself, nothing is to be done but to say so.
    drop(links);
    let links = displace(&site, &pass, &Hook::BOTH);
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Not(&interface, "displaced"));
    drop(links);
    site.wait_coverage(&daemon, NOTICED, "agents/client", observed);
    assert_eq!(restored(&daemon), 2);
    site.talk(10);
    wait_told(&daemon, 40);
    assert_eq!(held(&site, &daemon), before);
    let log = daemon.stop().unwrap();
    assert_eq!(log.matches("another program sits in front of ours").count(), 2, "told once each: {log}");
}

#[test]
fn neighbours_behind_ours_hide_nothing_and_still_decide() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let interface = site.interface();
    let daemon = site.daemon();
    let observed = Expected::Observed(&interface);
    let mut seen = 0;
    for answer in [Answer::Next, Answer::Pass, Answer::Drop] {
        let neighbour = Neighbour::load(answer).unwrap();
        let link = neighbour.attach(site.node.netns(), &interface, Hook::Ingress, Position::Tail).unwrap();
        seen += check(&site, &daemon, seen, answer);
        drop(link);
        // A filter of clsact, at the priority that ours have where there is no TCX.
        let path = site.bpffs.pins().with_file_name(format!("{answer:?}"));
        neighbour.pin(&path).unwrap();
        let tc = |arguments: &str| {
            let mut command = site.node.netns().command("tc");
            command.args(arguments.split(' '));
            site.node.spawn("tc", command).unwrap().succeed(NOTICED).unwrap();
        };
        tc(&format!("qdisc add dev {interface} clsact"));
        let pinned = path.display();
        tc(&format!("filter add dev {interface} ingress prio 1 handle 1 bpf da object-pinned {pinned}"));
        seen += check(&site, &daemon, seen, answer);
        tc(&format!("qdisc del dev {interface} clsact"));
        site.talk(1);
        seen += 1;
        wait_told(&daemon, seen);
    }
    site.wait_coverage(&daemon, NOTICED, "agents/client", observed);
    assert_eq!(restored(&daemon), 0);
    assert!(Hook::BOTH.into_iter().all(|hook| site.programs(hook).len() == 1));
    daemon.stop().unwrap();
}

/// With a neighbour behind ours: its word counts, and what it drops has been seen all the same. Gives the
/// connections that came about.
fn check(site: &Site, daemon: &Daemon<'_>, seen: u64, answer: Answer) -> u64 {
    let opened = |daemon: &Daemon<'_>| daemon.scrape().unwrap().kernel("opened");
    let before = opened(daemon);
    if answer == Answer::Drop {
        let refused = site.client.attempt(SERVER, Duration::from_millis(300)).unwrap();
        assert!(!refused, "the neighbour drops, so nothing is answered");
        assert!(opened(daemon) > before, "its SYN was seen");
        assert_eq!(told(daemon), seen);
        return 0;
    }
    site.talk(5);
    wait_told(daemon, seen + 5);
    5
}

#[test]
fn a_link_that_somebody_detaches_is_made_again() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let interface = site.interface();
    let daemon = site.daemon();
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Observed(&interface));
    let before = held(&site, &daemon);
    // One direction, as a careless clean-up would.
    let link = first(&site, Hook::Ingress);
    neighbour::detach_foreign(link).unwrap();
    assert_eq!(site.programs(Hook::Ingress), []);
    wait::until("another link", NOTICED, || Ok((site.programs(Hook::Ingress).len() == 1).then_some(())))
        .unwrap();
    assert_ne!(first(&site, Hook::Ingress), link);
    assert_eq!(site.programs(Hook::Egress).len(), 1);
    wait::until("word of it", NOTICED, || Ok((restored(&daemon) == 1).then_some(()))).unwrap();
    site.talk(10);
    wait_told(&daemon, 10);
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Observed(&interface));
    assert_eq!(held(&site, &daemon), before);
    // The pins are those of the links in use: what a daemon leaves goes on.
    daemon.kill().unwrap();
    site.talk(10);
    let next = site.daemon();
    wait_told(&next, 20);
    next.stop().unwrap();
}

#[test]
fn a_hook_without_room_is_told_as_refused_until_there_is_room() {
    if !netns::require_root() {
        return;
    }
    let site = Site::new();
    let interface = site.interface();
    let mut crowd: Vec<Link> = (0..HOOK_MAX)
        .map(|number| {
            let neighbour = Neighbour::load(Answer::Next)?;
            let link = neighbour.attach(site.node.netns(), &interface, Hook::Egress, Position::Tail);
            link.with_context(|| format!("neighbour {number}"))
        })
        .collect::<anyhow::Result<_>>()
        .unwrap();
    let daemon = site.daemon();
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Not(&interface, "attach-refused"));
    assert_eq!(site.programs(Hook::Ingress), [], "no half of an interface is kept");
    assert!(site.bpffs.names("links").unwrap().is_empty());
    crowd.pop();
    site.wait_coverage(&daemon, TRIED_AGAIN, "agents/client", Expected::Observed(&interface));
    assert_eq!(site.programs(Hook::Egress).len(), HOOK_MAX);
    site.talk(10);
    wait_told(&daemon, 10);
    daemon.stop().unwrap();
}
