//! Other programs on the hooks of a pod's interface.

use std::{thread, time::Duration};

use anyhow::Context as _;
use detector_tests::{
    daemon::Daemon,
    neighbour::{self, Answer, HOOK_MAX, Hook, Link, Neighbour, Position},
    wait,
};

use super::rig::{self, Expected, NOTICED, SERVER, Site, TRIED_AGAIN, held, restored, told, wait_told};

/// The link on the head of a hook.
fn first(site: &Site, hook: Hook) -> u32 {
    site.programs(hook).first().unwrap().link
}

/// Puts a program in front.
fn displace(site: &Site, neighbour: &Neighbour, hooks: &[Hook]) -> Vec<(Hook, Link)> {
    let attach = |hook| neighbour.attach(site.node.netns(), &site.interface(), hook, Position::Head).unwrap();
    hooks.iter().map(|hook| (*hook, attach(*hook))).collect()
}

/// Waits until neighbours are behind another program, which is ours.
fn wait_behind(site: &Site, limit: Duration, neighbours: &[(Hook, Link)]) {
    let interface = &*site.interface();
    rig::wait_behind(site, limit, neighbours.iter().map(|(hook, link)| (interface, *hook, link)));
}

#[test]
fn a_program_that_ends_the_chain_before_ours_is_noticed_and_then_it_is_behind_ours() {
    let Some(site) = Site::new() else { return };
    let daemon = site.observing();
    let before = held(&site, &daemon);
    site.talk(10);
    wait_told(&daemon, 10);
    assert_eq!(restored(&daemon), 0);

    // It lets every packet pass, and none to whoever is behind it.
    let pass = Neighbour::load(Answer::Pass).unwrap();
    let links = displace(&site, &pass, &[Hook::Ingress]);
    wait_behind(&site, NOTICED, &links);
    wait::until("word of it", NOTICED, || Ok((restored(&daemon) == 1).then_some(()))).unwrap();
    site.wait_observed(&daemon);
    site.talk(10);
    wait_told(&daemon, 20);
    assert_eq!(held(&site, &daemon), before, "nothing is left of the place that was lost");

    // One that comes back at once is not fought without end: what it hides is told.
    let (links, (after, before_it)) = come_back(&site, &daemon, &pass, links, || {
        let before = told(&daemon);
        site.talk(10);
        thread::sleep(Duration::from_secs(2));
        (told(&daemon), before)
    });
    assert_eq!(after, before_it, "what it says is true: it sees nothing");
    // Later the place is taken again.
    let times = restored(&daemon);
    wait_behind(&site, TRIED_AGAIN, &links);
    site.wait_observed(&daemon);
    wait::until("word of it", NOTICED, || Ok((restored(&daemon) == times + 1).then_some(()))).unwrap();
    let seen = told(&daemon);
    site.talk(10);
    wait_told(&daemon, seen + 10);

    // And where the neighbour goes by itself, nothing is to be done but to say so.
    let (links, ()) = come_back(&site, &daemon, &pass, links, || ());
    drop(links);
    site.wait_observed(&daemon);
    let seen = told(&daemon);
    site.talk(10);
    wait_told(&daemon, seen + 10);
    assert_eq!(held(&site, &daemon), before);
    daemon.stop().unwrap();
}

/// Has a neighbour leave both hooks and come back at once, right after ours were put first, and does something while
/// its pod is `displaced`. On a machine so slow that ours were put first again meanwhile, that is done once more.
fn come_back<T>(
    site: &Site,
    daemon: &Daemon<'_>,
    neighbour: &Neighbour,
    mut links: Vec<(Hook, Link)>,
    mut meanwhile: impl FnMut() -> T,
) -> (Vec<(Hook, Link)>, T) {
    const ATTEMPTS: usize = 5;
    let line = Expected::Not(&site.interface(), "displaced").line("agents/client");
    for _attempt in 0..ATTEMPTS {
        let times = restored(daemon);
        drop(links);
        links = displace(site, neighbour, &Hook::BOTH);
        let told = wait::until(&line, NOTICED, || {
            Ok(if site.says(daemon, &line) {
                Some(true)
            } else {
                (restored(daemon) > times).then_some(false)
            })
        });
        if told.unwrap() {
            let done = meanwhile();
            if restored(daemon) == times {
                return (links, done);
            }
        }
        // Its 10 s had passed. From here on they have just begun.
        wait_behind(site, TRIED_AGAIN, &links);
    }
    panic!(
        "{ATTEMPTS} times ours were put first within 10 s, or this machine took longer than that each time"
    );
}

#[test]
fn neighbours_behind_ours_hide_nothing_and_still_decide() {
    let Some(site) = Site::new() else { return };
    let interface = site.interface();
    let daemon = site.observing();
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
    site.wait_observed(&daemon);
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
    let Some(site) = Site::new() else { return };
    let daemon = site.observing();
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
    site.wait_observed(&daemon);
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
    let Some(site) = Site::new() else { return };
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
