//! Interfaces that are renamed, moved and made anew.

use std::{thread, time::Duration};

use detector_tests::{
    daemon::Daemon,
    exchange::Talk,
    neighbour::{self, Answer, Hook, Neighbour, Position},
    netns::NetNs,
    node::PodSpec,
    wait,
};
use nix::net::if_::if_nametoindex;

use super::rig::{Expected, Held, NOTICED, SERVER, Site, WORD, held, restored, wait_told};

fn index(site: &Site, interface: &str) -> u32 {
    site.node.netns().run(|| Ok(if_nametoindex(interface)?)).unwrap()
}

/// The pins of one interface's links.
fn pins(index: u32) -> [String; 2] {
    [format!("{index}-egress"), format!("{index}-ingress")]
}

/// Interfaces that the daemon says it is attached to.
fn attached(daemon: &Daemon<'_>) -> u64 {
    daemon.scrape().unwrap().sum("plainsight_interfaces_attached", &[])
}

#[test]
fn an_interface_that_is_renamed_keeps_its_pod_and_its_place() {
    let Some(site) = Site::new() else { return };
    let before = site.interface();
    let daemon = site.observing();
    let held_before = held(&site, &daemon);
    site.talk(5);
    wait_told(&daemon, 5);

    let host = site.node.netns();
    // As the kernel wants it: down, which takes the routes with it.
    host.ip(&format!("link set {before} down")).unwrap();
    host.ip(&format!("link set {before} name other0")).unwrap();
    site.node.route(site.client.plan(), "other0").unwrap();
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Observed("other0"));
    site.talk(5);
    wait_told(&daemon, 10);
    assert_eq!(held(&site, &daemon), held_before);

    // What is to be put back in its place goes to the interface, and not to its old name, which is another's.
    let late = NetNs::new(format!("{}x", site.client.netns().name())).unwrap();
    host.ip(&format!("link add {before} type veth peer name eth0 netns {}", late.name())).unwrap();
    let pass = Neighbour::load(Answer::Pass).unwrap();
    let link = pass.attach(host, "other0", Hook::Egress, Position::Head).unwrap();
    wait::until("ours in front again", NOTICED, || {
        let there = neighbour::attached(host, "other0", Hook::Egress)?;
        Ok((there.len() == 2 && there[1].link == link.id()?).then_some(()))
    })
    .unwrap();
    wait::until("word of it", NOTICED, || Ok((restored(&daemon) == 1).then_some(()))).unwrap();
    wait::until("both interfaces", NOTICED, || Ok((attached(&daemon) == 2).then_some(()))).unwrap();
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Observed("other0"));
    site.talk(5);
    wait_told(&daemon, 15);
    daemon.stop().unwrap();
}

#[test]
fn an_interface_that_is_moved_away_is_let_go_and_taken_up_when_it_is_back() {
    let Some(site) = Site::new() else { return };
    let interface = site.interface();
    let daemon = site.observing();
    let before = held(&site, &daemon);
    let elsewhere = NetNs::new(format!("{}y", site.client.netns().name())).unwrap();
    site.node.netns().ip(&format!("link set {interface} netns {}", elsewhere.name())).unwrap();
    site.wait_coverage(&daemon, NOTICED, "agents/client", Expected::Not("-", "no-interface"));
    wait::until("the links released", NOTICED, || {
        let there = |hook| neighbour::attached(&elsewhere, &interface, hook);
        Ok((there(Hook::Ingress)?.is_empty() && there(Hook::Egress)?.is_empty()).then_some(()))
    })
    .unwrap();
    let Held { pins, links, files } = held(&site, &daemon);
    assert_eq!((pins.len(), links, files), (0, 0, before.files - 2));
    assert_eq!(attached(&daemon), 0);

    elsewhere.ip(&format!("link set {interface} netns {}", site.node.netns().name())).unwrap();
    site.node.route(site.client.plan(), &interface).unwrap();
    site.wait_observed(&daemon);
    site.talk(10);
    wait_told(&daemon, 10);
    let after = held(&site, &daemon);
    assert_eq!((after.pins.len(), after.links, after.files), (2, 2, before.files));
    assert_eq!(after.pins, self::pins(index(&site, &interface)));
    daemon.stop().unwrap();
}

#[test]
fn a_pod_that_follows_another_at_its_address_and_its_interfaces_name_is_not_taken_for_it() {
    let Some(mut site) = Site::new() else { return };
    let interface = site.interface();
    let first = site.node.plan(PodSpec::new("agents", "seat-0")).unwrap();
    let second = first.successor(PodSpec::new("agents", "seat-1"));
    let third = second.successor(PodSpec::new("agents", "seat-2"));
    let seat = first.interface();
    assert_eq!((seat.clone(), first.ipv4()), (third.interface(), third.ipv4()));
    let mut seated = Some(site.node.start(&first).unwrap());
    site.node.manifests(site.folder.path(), "").unwrap();
    let mut daemon = site.observing();
    let mut indices = Vec::new();
    let mut before = None;
    for plan in [&first, &second, &third] {
        let id = format!("agents/{}", plan.spec.name);
        if let Some(before) = before.replace(id.clone()) {
            drop(seated.take());
            site.wait_coverage(&daemon, NOTICED, &before, Expected::Not("-", "no-interface"));
            // It stays so: what it has sent is still in the kernel's edges.
            thread::sleep(Duration::from_millis(1500));
            site.wait_coverage(&daemon, Duration::ZERO, &before, Expected::Not("-", "no-interface"));
            seated = Some(site.node.start(plan).unwrap());
            site.node.manifests_of(site.folder.path(), &[site.client.plan(), plan], "").unwrap();
        }
        site.wait_coverage(&daemon, NOTICED, &id, Expected::Observed(&seat));
        seated.as_ref().unwrap().talk(SERVER, Talk::Mcp, 3).unwrap();
        daemon
            .wait_for(&format!("a flow of {id}"), WORD, |record| {
                record.is_flow() && record.client.name() == id && record.verdict() == "plaintext mcp"
            })
            .unwrap();
        indices.push(index(&site, &seat));
        let mut wanted: Vec<String> =
            [index(&site, &interface), index(&site, &seat)].into_iter().flat_map(pins).collect();
        wanted.sort();
        let held = held(&site, &daemon);
        assert_eq!((held.pins, held.links), (wanted, 4), "{id}");
        assert_eq!(attached(&daemon), 2);
    }
    indices.dedup();
    assert_eq!(indices.len(), 3, "each time another interface: {indices:?}");
    wait_told(&daemon, 9);
    let spoofed = daemon.records().into_iter().find(|record| record.text("id") == "spoofed-source");
    assert!(spoofed.is_none(), "{spoofed:?}");
    daemon.stop().unwrap();
}
