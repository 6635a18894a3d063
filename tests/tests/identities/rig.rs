//! Owns what the scenarios of identities share: calls over plain HTTP, and the flows that a daemon told.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use detector_tests::{
    clients,
    daemon::Daemon,
    frames::{ACK, Frame, PSH, SYN},
    node::{NODE_NAME, Pod},
    process::Process,
    record::Record,
};
use serde_json::{Value, json};

/// From traffic, or from a change, to word of it.
pub(crate) const WORD: Duration = Duration::from_secs(15);

/// A pod as the API server gives it.
pub(crate) fn object(pod: &Pod) -> Value {
    let spec = &pod.plan().spec;
    let addresses = [json!({ "ip": pod.ip() }), json!({ "ip": pod.ipv6() })];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": spec.name, "namespace": spec.namespace },
        "spec": { "nodeName": NODE_NAME, "serviceAccountName": spec.name, "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "podIP": pod.ip(), "podIPs": addresses },
    })
}

const BODY: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}"#;

/// A connection's packets as a client sends them, and nobody answers: the call of a tool.
pub(crate) fn call(source: SocketAddr, destination: SocketAddr) -> [Frame; 2] {
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {destination}\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let frame = || Frame::tcp(source, destination);
    [frame().flags(SYN).seq(1_000).ack(0), frame().flags(PSH | ACK).seq(1_001).ack(1).payload(request)]
}

/// Starts a server of plain HTTP on both families.
pub(crate) fn serve(pod: &Pod, port: u16) -> Process {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let mut process = clients::serve_health(pod, any).unwrap();
    clients::wait_for_server(pod, &mut process, port).unwrap();
    process
}

/// Makes one connection from a pod, with one request, and wants the server's answer.
pub(crate) fn fetch(from: &Pod, to: SocketAddr) {
    let answer = from.netns().run(|| {
        let mut stream = TcpStream::connect_timeout(&to, WORD)?;
        stream.set_read_timeout(Some(WORD))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.unwrap_or_else(|error| panic!("{} fetches from {to}: {error:#}", from.id()));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{to} answers {answer:?}");
}

/// Ends the daemon and gives every flow that it told, with the connections that it told last: client, server
/// and port.
pub(crate) fn flows(daemon: Daemon<'_>) -> BTreeMap<(String, String, u64), u64> {
    let output = daemon.stop().unwrap();
    let records = output.lines().filter_map(Record::read).filter(Record::is_flow);
    records
        .map(|record| {
            let count = record.line.get("count").and_then(Value::as_u64).unwrap();
            ((record.client.name().to_owned(), record.server.name().to_owned(), record.port), count)
        })
        .collect()
}

pub(crate) fn flow(client: &str, server: &str, port: u64, count: u64) -> ((String, String, u64), u64) {
    ((client.to_owned(), server.to_owned(), port), count)
}

pub(crate) fn address(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse::<IpAddr>().unwrap(), port)
}
