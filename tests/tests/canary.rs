//! Nothing of a payload leaves the kernel: words that real clients and servers put wherever a protocol has room are
//! in no output of the daemon, however much it is asked to log, and in no map.
#![allow(clippy::unwrap_used, reason = "a test panics where something is not as it should be")]

use std::{net::SocketAddr, time::Duration};

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    flow::{Flow, FlowKey},
    names,
    tls::Hello,
};
use detector_tests::{
    apiserver::{ApiServer, Resource},
    clients,
    daemon::{self, Daemon},
    netns,
    node::{NODE_NAME, Node, Pod, PodSpec},
    wait,
};
use serde_json::{Value, json};

const CANARY: &str = "zq7canary4f";
const WORD: Duration = Duration::from_secs(60);

/// Answers every request with the canary in a header, a cookie and the body.
const WEB: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"jsonrpc":"2.0","id":"CANARY","result":{"CANARY":"CANARY"}}'
        self.send_response(200, "CANARY")
        for name, value in [("mcp-session-id", "CANARY"), ("set-cookie", "CANARY=CANARY"), ("x-CANARY", "CANARY"),
                            ("content-type", "application/json"), ("content-length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

/// Sends back what it gets.
const ECHO: &str = r#"
import socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
socketserver.ThreadingTCPServer(("0.0.0.0", 8001), Handler).serve_forever()
"#;

/// One connection for each way in which a protocol that begins recognisably has room for words, and for bytes that
/// look like a ClientHello and are none.
const RAW: &str = r#"
import socket, struct, sys
c = b"CANARY"
name = struct.pack(">HBH", len(c) + 3, 0, len(c)) + c
hello = b"\x03\x03" + c.ljust(32, b"z") + b"\x00\x00\x02\x13\x01\x01\x00" + struct.pack(">HHH", len(name) + 4, 0, len(name)) + name
hello = b"\x01" + struct.pack(">I", len(hello))[1:] + hello
record = b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello
startup = b"user\0" + c + b"\0database\0" + c + b"\0\0"
for said in [
    b"*3\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(c), c, len(c), c),
    struct.pack(">II", len(startup) + 8, 196608) + startup,
    b"EHLO %s\r\nAUTH PLAIN %s\r\nMAIL FROM:<%s@%s>\r\n" % (c, c, c, c),
    b"CONNECT {\"user\":\"%s\",\"pass\":\"%s\"}\r\nPUB %s 5\r\n" % (c, c, c),
    b"GET /%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: mcp, %s\r\n\r\n" % (c, c, c, c),
    b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(record), record),
    b"{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"params\":[\"%s\"]}\n" % (c, c),
    b"Content-Length: 60\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"%s\"}" % c,
    b"\x00" + record,
    b"\x16\x03\x01\x00\x05" + record,
    c * 400,
]:
    with socket.create_connection((sys.argv[1], 8001), 10) as s:
        for part in [said[:7], said[7:]]:
            s.sendall(part)
            s.recv(65536)
"#;

fn object(pod: &Pod) -> Value {
    let spec = &pod.plan().spec;
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": spec.name, "namespace": spec.namespace },
        "spec": { "nodeName": NODE_NAME, "serviceAccountName": spec.name, "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "podIP": pod.ip(), "podIPs": [{ "ip": pod.ip() }] },
    })
}

fn python(pod: &Pod, script: &str, arguments: &[&str]) -> detector_tests::process::Process {
    let mut command = pod.command("python3");
    command.arg("-c").arg(script.replace("CANARY", CANARY)).args(arguments);
    pod.spawn(command).unwrap()
}

/// What the maps of every daemon on this machine hold: ours are among them.
fn maps() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for info in loaded_maps().filter_map(Result::ok) {
        let name = info.name_as_str().unwrap_or_default().to_owned();
        let Ok(map) = MapData::from_id(info.id()) else { continue };
        let bytes = match name.as_str() {
            names::FLOWS => dump::<FlowKey, Flow>(Map::HashMap(map)),
            names::EDGES => dump::<EdgeKey, EdgeValue>(Map::HashMap(map)),
            names::HELLOS => dump::<FlowKey, Hello>(Map::LruHashMap(map)),
            _ => continue,
        };
        all.extend(bytes.map(|bytes| (name, bytes)));
    }
    all
}

/// The bytes of a map, unless it is another build's.
fn dump<K: aya::Pod, V: aya::Pod>(map: Map) -> Option<Vec<u8>> {
    let map = HashMap::<_, K, V>::try_from(map).ok()?;
    Some(
        map.iter()
            .filter_map(Result::ok)
            .flat_map(|(key, value)| [raw(&key), raw(&value)].concat())
            .collect(),
    )
}

#[expect(unsafe_code, reason = "reads plain old data as bytes")]
fn raw<T: aya::Pod>(value: &T) -> Vec<u8> {
    // SAFETY: the type is plain old data without padding, by its `Pod`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }.to_vec()
}

#[test]
fn nothing_of_a_payload_is_in_an_output_or_a_map() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let server = node.pod(PodSpec::new("tools", "server")).unwrap();
    let client = node.pod(PodSpec::new("agents", "client")).unwrap();
    let api = node.netns().run(ApiServer::start).unwrap();
    let reports = Resource::new("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports");
    api.install(reports.clone());
    api.apply_all([object(&server), object(&client)]);
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = Daemon::kubernetes_arguments(&api.kubeconfig(folder.path()).unwrap());
    let more =
        ["--log", "trace", "--report-other-plaintext", "--kubernetes-events", "on", "--policy-reports", "on"];
    arguments.extend(more.map(Into::into));
    let mut daemon = Daemon::start_with(&node, &daemon::binary().unwrap(), &arguments, None).unwrap();

    let (mut web, mut echo) = (python(&server, WEB, &[]), python(&server, ECHO, &[]));
    clients::wait_for_server(&server, &mut web, 8000).unwrap();
    clients::wait_for_server(&server, &mut echo, 8001).unwrap();
    let address = SocketAddr::new(server.ip(), 8000);
    let url = format!("http://{address}/{CANARY}?{CANARY}={CANARY}");
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":\"{CANARY}\",\"method\":\"tools/call\",\"params\":{{\"name\":\"{CANARY}\",\"arguments\":{{\"{CANARY}\":\"{CANARY}\"}},\"_meta\":{{\"io.modelcontextprotocol/{CANARY}\":\"{CANARY}\"}}}}}}"
    );
    let headers: Vec<String> = [
        "X-CANARY: CANARY",
        "Authorization: Bearer CANARY",
        "Cookie: CANARY=CANARY",
        "X-Api-Key: CANARY",
        "Mcp-Session-Id: CANARY",
        "Mcp-Name: CANARY",
        "Mcp-Method: tools/CANARY",
        "MCP-Protocol-Version: CANARY",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream, CANARY",
    ]
    .map(|header| header.replace("CANARY", CANARY))
    .into();
    let mut call = vec!["--data-binary", &body];
    call.extend(headers.iter().flat_map(|header| ["--header", header]));
    clients::curl(&client, &url, &call).unwrap().succeed(WORD).unwrap();
    let user = format!("{CANARY}:{CANARY}");
    clients::curl(&client, &url, &["--user", &user]).unwrap().succeed(WORD).unwrap();
    // The server does not speak it; the request is sent all the same.
    let h2 = ["--http2-prior-knowledge", "--max-time", "2", "--header", &headers[0]];
    clients::curl(&client, &url, &h2).unwrap().wait(WORD).unwrap();
    python(&client, RAW, &[&server.ip().to_string()]).succeed(WORD).unwrap();

    daemon
        .wait_for("the call with its credentials", WORD, |record| {
            record.text("id") == "plaintext-mcp" && record.list("evidence").contains(&"authorization-bearer")
        })
        .unwrap();
    daemon.wait_for("the raw ones", WORD, |record| record.is_flow() && record.port == 8001).unwrap();
    wait::until("an Event and a report", WORD, || {
        let written = [api.objects("events.events.k8s.io"), api.objects(&reports.full_name())];
        Ok(written.iter().all(|objects| !objects.is_empty()).then_some(()))
    })
    .unwrap();

    let mut outputs = vec![
        ("metrics", daemon.metrics().unwrap()),
        ("readiness", daemon.readiness().unwrap()),
        ("Events", json!(api.objects("events.events.k8s.io")).to_string()),
        ("reports", json!(api.objects(&reports.full_name())).to_string()),
    ];
    for path in ["/api/v1/node", "/api/v1/flows", "/api/v1/findings", "/api/v1/coverage"] {
        outputs.push((path, daemon.api(path).unwrap().to_string()));
    }
    let maps = maps();
    outputs.push(("lines and log", daemon.stop().unwrap()));
    for (name, text) in &outputs {
        assert!(text.len() > 50, "{name} says nothing: {text}");
        if let Some(at) = text.find(CANARY) {
            panic!("{name} has it: {}", &text[at.saturating_sub(300)..]);
        }
    }
    for wanted in [names::FLOWS, names::EDGES, names::HELLOS] {
        assert!(maps.iter().any(|(name, _)| name == wanted), "{wanted} was not read");
    }
    assert!(maps.iter().any(|(name, bytes)| name == names::EDGES && !bytes.is_empty()));
    for (name, bytes) in &maps {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "map {name} has it");
    }
}
