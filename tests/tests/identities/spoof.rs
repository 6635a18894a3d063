//! A pod that sends with another's address, packet by packet: its interface gives it away.

use std::net::{IpAddr, SocketAddr};

use detector_tests::{
    daemon::{self, Daemon},
    netns,
    node::{Node, Pod, PodSpec},
};

use super::rig::{WORD, call, fetch, serve};

const PORT: u16 = 8000;

#[test]
fn a_source_address_that_is_another_pods_is_told_over_both_families_and_an_own_one_is_not() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let mut pod = |namespace: &str, name: &str| node.pod(PodSpec::new(namespace, name)).unwrap();
    let (server, victim, liar, honest) =
        (pod("tools", "server"), pod("agents", "victim"), pod("lab", "liar"), pod("agents", "honest"));
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let mut daemon = Daemon::start(&node, &daemon::binary().unwrap(), folder.path(), None).unwrap();

    let families: [fn(&Pod) -> IpAddr; 2] = [Pod::ip, Pod::ipv6];
    let _listening = [PORT, PORT + 1].map(|port| serve(&server, port));
    for (number, ip) in (0..).zip(families) {
        let to = SocketAddr::new(ip(&server), PORT + number);
        // The victim would refuse the server's answer, and so end the connection early.
        victim.netns().ip(&format!("route add blackhole {}", to.ip())).unwrap();
        liar.send_raw(to, &call(SocketAddr::new(ip(&victim), 40_000), to)).unwrap();
        fetch(&honest, to);
    }
    for (number, ip) in (0..).zip(families) {
        let port = u64::from(PORT + number);
        let found = daemon
            .wait_for("the spoofed source", WORD, |record| {
                record.text("id") == "spoofed-source" && record.port == port
            })
            .unwrap();
        assert_eq!(found.client.pod.as_deref(), Some("lab/liar"), "{}", found.line);
        assert_eq!(found.line["client"]["address_of"], "agents/victim", "{}", found.line);
        assert_eq!(found.line["client"]["address"], ip(&victim).to_string(), "{}", found.line);
        assert_eq!(found.server.pod.as_deref(), Some("tools/server"), "{}", found.line);
        daemon
            .wait_for("the honest call", WORD, |record| {
                record.is_flow() && record.port == port && record.client.name() == "agents/honest"
            })
            .unwrap();
    }
    // The server's interface shows the same packets, and nothing there tells whose they are: the victim must
    // not be named for them.
    let output = daemon.stop().unwrap();
    let records = output.lines().filter_map(detector_tests::record::Record::read);
    for record in records {
        assert_ne!(record.client.name(), "agents/victim", "{}", record.line);
        let spoofed = record.text("id") == "spoofed-source";
        assert!(!spoofed || record.client.name() == "lab/liar", "{}", record.line);
    }
}
