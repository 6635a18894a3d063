//! The node itself: that pods reach each other as on a real one, that the programs of the scenarios do what
//! they should, and that nothing stays behind.

use std::{fs, net::SocketAddr, time::Duration};

use detector_tests::{
    clients::{self, Certificate, Sdk, Target},
    netns,
    node::{Node, PodSpec},
    process::Process,
};

const LIMIT: Duration = Duration::from_secs(20);

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port)
}

#[test]
fn pods_and_node_reach_each_other_over_both_families() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let server = node.pod(PodSpec::new("default", "server")).unwrap();
    let client = node.pod(PodSpec::new("default", "client")).unwrap();
    let mut health = clients::serve_health(&server, any(8080)).unwrap();
    clients::wait_for_server(&server, &mut health, 8080).unwrap();
    for address in [format!("{}:8080", server.ip()), format!("[{}]:8080", server.ipv6())] {
        let url = format!("http://{address}/");
        assert_eq!(clients::curl(&client, &url, &[]).unwrap().succeed(LIMIT).unwrap(), "ok");
        assert_eq!(clients::curl_from_node(&node, &url, &[]).unwrap().succeed(LIMIT).unwrap(), "ok");
    }
}

#[test]
fn every_sdk_calls_a_tool_in_the_clear_and_the_python_ones_over_tls() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let server = node.pod(PodSpec::new("default", "server")).unwrap();
    let client = node.pod(PodSpec::new("default", "client")).unwrap();
    let certificate = Certificate::new(&server).unwrap();
    let ip = server.ip();
    let cases = [
        (Sdk::Python2, Target::clear(ip, 8002), None),
        (Sdk::Python1, Target::clear(ip, 8001).token("t"), None),
        (Sdk::Python1Sse, Target::clear(ip, 8003), None),
        (Sdk::Node, Target::clear(ip, 8004).token("t"), None),
        (Sdk::Python2, Target::clear(ip, 8005).tls(&certificate), Some(&certificate)),
        (Sdk::Python1, Target::clear(ip, 8006).tls(&certificate), Some(&certificate)),
    ];
    let mut servers: Vec<Process> = cases
        .iter()
        .map(|(sdk, target, certificate)| {
            let address = SocketAddr::new(ip, target.address.port());
            sdk.serve(&server, address, *certificate).unwrap()
        })
        .collect();
    for (process, (_, target, _)) in servers.iter_mut().zip(&cases) {
        clients::wait_for_server(&server, process, target.address.port()).unwrap();
    }
    let calls: Vec<_> = cases.iter().map(|(sdk, target, _)| sdk.call(&client, target).unwrap()).collect();
    for call in calls {
        call.finish().unwrap();
    }
}

#[test]
fn a_dropped_node_leaves_no_process_and_no_namespace() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let pod = node.pod(PodSpec::new("default", "pod")).unwrap();
    let paths = [node.netns().path(), pod.netns().path()];
    let mut command = pod.command("sh");
    // One child in a process group of its own, as a daemon is.
    command.args(["-c", "setsid sleep 1000 & echo $!; exec sleep 1000"]);
    let mut process = pod.spawn(command).unwrap();
    let child = process
        .wait_while_running("child's id", LIMIT, |process| Ok(process.stdout().first().cloned()))
        .unwrap();
    let ids = [process.id().to_string(), child];
    drop(process);
    drop(pod);
    drop(node);
    for path in paths {
        assert!(!path.exists(), "{}", path.display());
    }
    for id in ids {
        let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // An orphan may wait for its new parent to take note of its end.
        assert!(state.is_empty() || state.contains(") Z "), "process {id} is alive: {state}");
    }
}
