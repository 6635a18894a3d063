//! A pod that sends with another's address, packet by packet: its interface gives it away.

use std::net::{IpAddr, SocketAddr, TcpStream};

use detector_tests::{
    daemon::{self, Daemon},
    netns,
    node::{Node, Pod, PodSpec},
    wait,
};
use serde_json::Value;

use super::rig::{WORD, call, fetch, serve};

const PORT: u16 = 8000;

#[test]
fn a_source_address_that_is_another_pods_is_told_over_both_families_and_an_own_one_is_not() {
    if netns::require_root() {
        forged_and_honest(Node::new().unwrap());
    }
}

#[test]
fn on_a_bridge_its_forwarding_table_tells_whose_address_is_whose() {
    if netns::require_root() {
        forged_and_honest(Node::bridged().unwrap());
    }
}

fn forged_and_honest(mut node: Node) {
    let mut pod = |namespace: &str, name: &str| node.pod(PodSpec::new(namespace, name)).unwrap();
    let (server, victim, liar, honest) =
        (pod("tools", "server"), pod("agents", "victim"), pod("lab", "liar"), pod("agents", "honest"));
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let families: [fn(&Pod) -> IpAddr; 2] = [Pod::ip, Pod::ipv6];
    // The kubelet's probes do this: the node gets to know its neighbours. Nobody listens there.
    for (pod, ip) in
        [&server, &victim, &liar, &honest].into_iter().flat_map(|pod| families.map(|ip| (pod, ip)))
    {
        let to = SocketAddr::new(ip(pod), 9);
        let _refused = node.netns().run(|| Ok(TcpStream::connect_timeout(&to, WORD).is_ok())).unwrap();
    }
    let mut daemon = Daemon::start(&node, &daemon::binary().unwrap(), folder.path(), None).unwrap();

    // It sends nothing: what leads to its interface is the kernel's word alone.
    let observed = format!("observed      agents/victim on {}", victim.plan().interface());
    wait::until("the victim observed", WORD, || {
        Ok(daemon.readiness()?.lines().any(|line| line == observed).then_some(()))
    })
    .unwrap();

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
        let client = |member: &str| found.line.pointer(&format!("/client/{member}")).and_then(Value::as_str);
        assert_eq!(client("address_of"), Some("agents/victim"), "{}", found.line);
        assert_eq!(client("address"), Some(ip(&victim).to_string().as_str()), "{}", found.line);
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
