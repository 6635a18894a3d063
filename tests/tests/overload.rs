//! The real daemon under more than it can take: what it loses is counted to the packet, its memory stays
//! within bounds, and once the flood is over it works as before, without a restart.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "overload/rig.rs"]
mod rig;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use detector_tests::{
    daemon::{self, Daemon},
    netns,
};
use nix::sys::signal::Signal;

use self::rig::{Rig, scrape_until};

/// What a flood may add to the daemon's memory, in KiB: generous, for a build without optimisation.
const GROWTH: u64 = 64 * 1024;

#[track_caller]
fn assert_bounded(daemon: &Daemon<'_>, before: u64) {
    let after = daemon.anonymous().unwrap();
    println!("memory: {before} KiB before, {after} KiB after");
    assert!(after.saturating_sub(before) < GROWTH, "{before} KiB grew to {after} KiB");
}

/// Each SYN is a flow, or a counter says why not.
fn flood_of_syns(budget: &str) {
    const SYNS: u32 = 50_000;
    let rig = Rig::new();
    {
        let mut daemon = rig.daemon(&["--max-flows", "1024", "--flow-idle", "1", "--scan-budget", budget]);
        let before = daemon.anonymous().unwrap();
        rig.syns(SYNS);
        let scrape = daemon.scrape().unwrap();
        let [opened, refused, full] =
            ["opened", "open_refused", "flow_map_full"].map(|name| scrape.kernel(name));
        println!("--scan-budget {budget}: {opened} opened, {refused} refused, {full} found the map full");
        // Those that found the map full are among the opened. Whatever else a node sends has counters of its own.
        assert_eq!(opened + refused, u64::from(SYNS));
        let tracked = opened - full;
        assert!(full > 0 || refused > 0);
        assert!(tracked <= 1024 + scrape.kernel("expired"), "more flows than there is room for");
        assert!(budget != "100" || refused == 0, "a budget without limit refuses nothing");
        assert_bounded(&daemon, before);
        scrape_until(&daemon, "an empty flow map", |scrape| scrape.kernel("expired") == tracked);
        rig.finds_a_call(&mut daemon);
        daemon.stop().unwrap();
    }
}

#[test]
fn a_flood_of_syns_is_counted_to_the_packet_and_fills_no_more_than_the_flow_map() {
    if netns::require_root() {
        flood_of_syns("100");
    }
}

#[test]
fn within_the_budget_too_a_flood_of_syns_is_counted_to_the_packet() {
    if netns::require_root() {
        flood_of_syns("1");
    }
}

#[test]
fn a_consumer_that_stood_still_for_ten_seconds_has_every_connection_after_all() {
    const STILL: Duration = Duration::from_secs(10);
    const CLIENTS: u32 = 10_000;
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    let mut daemon = rig.daemon(&["--scan-budget", "100"]);
    let before = daemon.anonymous().unwrap();
    let since = Instant::now();
    daemon.signal(Signal::SIGSTOP).unwrap();
    rig.connections(CLIENTS);
    // The time is what is tried here.
    thread::sleep(STILL.saturating_sub(since.elapsed()));
    daemon.signal(Signal::SIGCONT).unwrap();
    let clients = u64::from(CLIENTS);
    let scrape = scrape_until(&daemon, "all connections", |scrape| scrape.connections() >= clients);
    assert_eq!(scrape.connections(), clients);
    assert_eq!(scrape.kernel("opened"), clients);
    // 256 KiB hold fewer than two thousand events.
    let late = scrape.kernel("ring_full");
    assert!(late > clients - 2_500 && late < clients, "{late} events were late");
    assert_bounded(&daemon, before);
    rig.finds_a_call(&mut daemon);
    daemon.stop().unwrap();
}

#[test]
fn connections_that_find_the_edge_map_full_are_counted_one_by_one() {
    const CLIENTS: u32 = 20_000;
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    let mut daemon = rig.daemon(&["--max-edges", "256", "--flow-idle", "2", "--scan-budget", "100"]);
    let before = daemon.anonymous().unwrap();
    rig.connections(CLIENTS);
    let clients = u64::from(CLIENTS);
    let all = |connections: u64, lost: u64| connections + lost == clients;
    let scrape = scrape_until(&daemon, "connections and losses that add up", |scrape| {
        all(scrape.connections(), scrape.kernel("edge_map_full"))
    });
    assert_eq!(scrape.kernel("opened"), clients);
    assert!(scrape.connections() >= 256, "the map holds as many as were asked for");
    assert_bounded(&daemon, before);
    // Edges that fell silent make room.
    scrape_until(&daemon, "room", |scrape| scrape.sum("plainsight_map_entries", &["map=\"edges\""]) < 128);
    rig.finds_a_call(&mut daemon);
    daemon.stop().unwrap();
}

#[test]
fn lines_that_nobody_reads_are_lost_and_counted_and_detection_goes_on() {
    const CLIENTS: u32 = 10_000;
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    let mut daemon = rig.daemon(&["--log-flows", "--scan-budget", "100"]);
    let before = daemon.anonymous().unwrap();
    daemon.hold_output(true);
    rig.connections(CLIENTS);
    let clients = u64::from(CLIENTS);
    let scrape = scrape_until(&daemon, "all connections", |scrape| scrape.connections() == clients);
    let lost = scrape.sum("plainsight_lines_lost_total", &[]);
    assert!(lost > 0 && lost < clients, "{lost} lines were lost");
    assert_bounded(&daemon, before);
    daemon.hold_output(false);
    rig.finds_a_call(&mut daemon);
    let lost = daemon.scrape().unwrap().sum("plainsight_lines_lost_total", &[]);
    let floods = |daemon: &Daemon<'_>| {
        let records = daemon.records();
        records.iter().filter(|record| record.is_flow() && record.port == 80).count() as u64
    };
    assert_eq!(floods(&daemon) + lost, clients, "each flow is a line, or counted as lost");
    daemon.stop().unwrap();
}

#[test]
fn scrapes_in_a_storm_and_clients_that_never_read_leave_room_for_others() {
    const MUTE: usize = 20;
    const ASKED: usize = 500;
    const STORM: Duration = Duration::from_secs(3);
    if !netns::require_root() {
        return;
    }
    let rig = Rig::new();
    let mut daemon = rig.daemon(&[]);
    rig.connections(500);
    let before = daemon.anonymous().unwrap();
    let connect = || rig.node.netns().run(|| Ok(TcpStream::connect(daemon::ADMIN)?)).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", daemon::ADMIN);
    // Held open until the end, with more answers due than a socket holds.
    let mute: Vec<TcpStream> = (0..MUTE)
        .map(|_| {
            let mut stream = connect();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let _not_taken = stream.write_all(request.repeat(ASKED).as_bytes());
            stream
        })
        .collect();
    let until = Instant::now() + STORM;
    let storm: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = 0;
                    while Instant::now() < until {
                        let mut stream = connect();
                        let once = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                        stream.write_all(once.as_bytes()).unwrap();
                        let mut answer = String::new();
                        stream.read_to_string(&mut answer).unwrap();
                        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    println!("{storm} scrapes were answered beside {MUTE} clients that do not read");
    rig.finds_a_call(&mut daemon);
    assert_bounded(&daemon, before);
    drop(mute);
    daemon.stop().unwrap();
}
