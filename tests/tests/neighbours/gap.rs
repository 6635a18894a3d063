//! Connections that are made throughout, while another program takes our place and ours take it back.

use std::{net::SocketAddr, thread, time::Instant};

use detector_tests::{
    daemon::Daemon,
    neighbour::{Answer, Hook, Link, Neighbour, Position},
    node::{NODE_ADDRESS, Pod, PodSpec},
    wait,
};

use super::{
    rig::{Expected, NOTICED, Site, TRIED_AGAIN, WORD, restored, told, wait_behind},
    stream::Traffic,
};

/// Pods that talk at the same time.
const PODS: u16 = 4;
/// Connections of each of them, before and after.
const STRETCH: u64 = 50;

/// Puts a program in front on both hooks of each pod's interface.
fn displace(site: &Site, neighbour: &Neighbour, interfaces: &[String]) -> Vec<(String, Hook, Link)> {
    let mut links = Vec::new();
    for interface in interfaces {
        for hook in Hook::BOTH {
            let link = neighbour.attach(site.node.netns(), interface, hook, Position::Head).unwrap();
            links.push((interface.clone(), hook, link));
        }
    }
    links
}

fn each(links: &[(String, Hook, Link)]) -> impl Iterator<Item = (&str, Hook, &Link)> + Clone {
    links.iter().map(|(interface, hook, link)| (&**interface, *hook, link))
}

/// Seconds that the daemon says others may have hidden packets in.
fn displaced_seconds(daemon: &Daemon<'_>) -> f64 {
    let metrics = daemon.metrics().unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("plainsight_displaced_seconds_total "));
    line.unwrap().parse().unwrap()
}

#[test]
fn no_connection_goes_unseen_while_ours_are_put_back() {
    let Some(mut site) = Site::new() else { return };
    let pods: Vec<Pod> = (0..PODS)
        .map(|number| site.node.pod(PodSpec::new("agents", &format!("p{number}"))).unwrap())
        .collect();
    site.node.manifests(site.folder.path(), "").unwrap();
    let interfaces: Vec<String> = pods.iter().map(|pod| pod.plan().interface()).collect();
    let daemon = site.observing();
    for (number, interface) in interfaces.iter().enumerate() {
        let pod = format!("agents/p{number}");
        site.wait_coverage(&daemon, NOTICED, &pod, Expected::Observed(interface));
    }
    let traffic: Vec<Traffic> = pods.iter().map(|_| Traffic::default()).collect();
    // It asks the next one: what ours miss is what they miss by themselves.
    let next = Neighbour::load(Answer::Next).unwrap();
    let made: u64 = thread::scope(|scope| {
        let _endings: Vec<_> = traffic
            .iter()
            .zip(&pods)
            .zip(8100..)
            .map(|((traffic, pod), port)| {
                traffic.start(scope, &site.node, pod, SocketAddr::from((NODE_ADDRESS, port)))
            })
            .collect();
        let more = || traffic.iter().for_each(|traffic| traffic.more(STRETCH));
        more();
        // From the first instance of our programs to the second, and back.
        for (round, limit) in [(1, NOTICED), (2, TRIED_AGAIN)] {
            let links = displace(&site, &next, &interfaces);
            wait_behind(&site, limit, each(&links));
            more();
            drop(links);
            more();
            assert!(restored(&daemon) >= round * u64::from(PODS), "{} times", restored(&daemon));
        }
        traffic.iter().map(Traffic::end).sum()
    });
    // One whose packets met both instances, for the moment that there are both, may count twice.
    wait_told_between(&daemon, made, made + made / 100);
    let twice = told(&daemon) - made;
    println!("{made} connections, none unseen; {twice} told twice");
    daemon.stop().unwrap();
}

#[test]
fn what_a_program_in_front_may_have_hidden_is_no_more_than_is_said() {
    let Some(site) = Site::new() else { return };
    let daemon = site.observing();
    let traffic = Traffic::default();
    // It lets every packet pass, and none to whoever is behind it.
    let pass = Neighbour::load(Answer::Pass).unwrap();
    let address = SocketAddr::from((NODE_ADDRESS, 8100));
    let (made, missable, hidden) = thread::scope(|scope| {
        let _ending = traffic.start(scope, &site.node, &site.client, address);
        traffic.more(STRETCH);
        assert_eq!(displaced_seconds(&daemon).to_bits(), 0.0_f64.to_bits());
        let before = traffic.made();
        let links = displace(&site, &pass, &[site.interface()]);
        let start = Instant::now();
        let mut hidden = start.elapsed();
        // Until it was seen in front for the last time it was there without a break.
        while site.programs(Hook::Ingress).first().unwrap().link == links[0].2.id().unwrap() {
            hidden = start.elapsed();
            assert!(hidden < TRIED_AGAIN, "ours are not in front again");
        }
        wait_behind(&site, NOTICED, each(&links));
        // The one that is under way may have begun unseen.
        let missable = traffic.made() - before + 1;
        traffic.more(STRETCH);
        (traffic.end(), missable, hidden)
    });
    // All that could be seen was, and none twice.
    wait_told_between(&daemon, made - missable, made);
    let (said, unseen) = (displaced_seconds(&daemon), made - told(&daemon));
    println!(
        "{unseen} of {made} connections went unseen behind a program that was in front for {hidden:?}; \
         the daemon says {said:.3} s"
    );
    assert!(said >= hidden.as_secs_f64(), "in front for {hidden:?}, and {said} s are told");
    assert_eq!(restored(&daemon), 1);
    let log = daemon.stop().unwrap();
    assert!(log.contains("unsure_at_most="), "{log}");
}

/// Waits until the daemon has told of so many connections, and of not more than there were.
fn wait_told_between(daemon: &Daemon<'_>, least: u64, most: u64) {
    wait::until(format!("{least} connections"), WORD, || Ok((told(daemon) >= least).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}; it told of {}", told(daemon)));
    assert!(told(daemon) <= most, "{} of {most}", told(daemon));
}
