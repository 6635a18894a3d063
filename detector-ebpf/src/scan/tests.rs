//! Streams of one side, and what they must show, whole and in pieces.

use std::{format, string::String, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{method::Methods, packet::Frame, verdict::Protocol};

/// What a stream has shown.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    phase: u8,
    protocol: u8,
    evidence: Vec<&'static str>,
    methods: Vec<&'static str>,
}

const WINDOW: u32 = 4096;

/// Reads a stream in pieces that end at `ends`, and at its end.
fn read(stream: &[u8], ends: &[usize]) -> Shown {
    read_to_end(stream, ends).0
}

fn read_to_end(stream: &[u8], ends: &[usize]) -> (Shown, Work) {
    let mut last = Work::new(Side::new(), WINDOW);
    let mut side = Side::new();
    let mut found = Scanned::default();
    let mut from = 0;
    for end in ends.iter().copied().chain([stream.len()]) {
        let mut rest = &stream[from..end.clamp(from, stream.len())];
        from += rest.len();
        let mut work = last;
        work.prepare(&side, WINDOW, false);
        while !rest.is_empty() {
            let taken = step(&Frame(rest), &mut work, 0, rest.len() as u32) as usize;
            assert!((1..=rest.len()).contains(&taken), "a step takes something, and no more than there is");
            rest = &rest[taken..];
        }
        let piece = work.finish(false);
        found.evidence |= piece.evidence;
        found.methods |= piece.methods;
        found.protocol = found.protocol.max(piece.protocol);
        assert_eq!(work.lost, 0, "the place is lost");
        side = work.side;
        last = work;
    }
    let shown = Shown {
        phase: side.phase,
        protocol: found.protocol,
        evidence: Evidence(found.evidence).names().collect(),
        methods: Methods(found.methods).names().collect(),
    };
    (shown, last)
}

struct Case {
    name: &'static str,
    stream: Vec<u8>,
    protocol: Protocol,
    has: Evidence,
    has_not: Evidence,
    methods: &'static [&'static str],
}

fn case(name: &'static str, stream: impl AsRef<[u8]>, protocol: Protocol) -> Case {
    Case {
        name,
        stream: stream.as_ref().to_vec(),
        protocol,
        has: Evidence::NONE,
        has_not: Evidence::NONE,
        methods: &[],
    }
}

impl Case {
    fn has(mut self, evidence: Evidence) -> Self {
        self.has = self.has.or(evidence);
        self
    }

    fn has_not(mut self, evidence: Evidence) -> Self {
        self.has_not = self.has_not.or(evidence);
        self
    }

    fn methods(mut self, methods: &'static [&'static str]) -> Self {
        self.methods = methods;
        self
    }
}

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /mcp HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

fn chunked(head: &str, chunks: &[&str]) -> String {
    let mut stream = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for chunk in chunks {
        stream += &format!("{:X}\r\n{chunk}\r\n", chunk.len());
    }
    stream + "0\r\n\r\n"
}

const INITIALIZE: &str = r#"{"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}},"jsonrpc":"2.0","id":0}"#;
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"add","arguments":{"a":1}}}"#;

const LSP: &str = r#"{"id": 1, "params": {"processId": 1}, "method": "initialize", "jsonrpc": "2.0"}"#;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn h2c(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    stream.extend(frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]));
    stream.extend(frames.iter().flatten());
    stream
}

fn cases() -> Vec<Case> {
    use Protocol::{H2c, Http1, JsonRpc, Mcp, None};
    let long = "x".repeat(20_000);
    vec![
        case("health check", "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.36\r\n\r\n", Http1)
            .has(Evidence::HTTP_REQUEST.or(Evidence::KUBE_PROBE))
            .has_not(Evidence::CREDENTIALS),
        case("HTTP/1.0", "HEAD / HTTP/1.0\r\n\r\n", Http1).has(Evidence::HTTP_REQUEST),
        case("no HTTP after the target", "PUT key\r\nPUT key2\r\n", None),
        case("initialize", post("", INITIALIZE), Mcp)
            .has(Evidence::JSONRPC.or(Evidence::MCP_REVISION).or(Evidence::SHARED_METHOD))
            .methods(&["initialize"]),
        case("call", post("Authorization: Bearer abc.def\r\nMCP-Protocol-Version: 2025-06-18\r\n", CALL), Mcp)
            .has(Evidence::AUTH_BEARER.or(Evidence::MCP_VERSION).or(Evidence::MCP_BODY_METHOD))
            .has_not(Evidence::AUTH_OTHER)
            .methods(&["tools/call"]),
        case(
            "modern",
            post("mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nMcp-Name: add\r\n", CALL),
            Mcp,
        )
        .has(Evidence::MCP_VERSION.or(Evidence::MCP_METHOD))
        .methods(&["tools/call"]),
        case("session, no body", "DELETE /mcp HTTP/1.1\r\nMCP-SESSION-ID: 1\r\n\r\n", Mcp)
            .has(Evidence::MCP_SESSION),
        case("method first, jsonrpc after 20 KB", post("", &format!(r#"{{"method":"tools/call","params":{{"a":"{long}"}},"jsonrpc":"2.0"}}"#)), Mcp)
            .has_not(Evidence::JSONRPC)
            .methods(&["tools/call"]),
        case("spaced", post("", "{ \"id\" : 1,\n  \"method\" : \"tools/list\" ,\t\"jsonrpc\" : \"2.0\" }"), Mcp)
            .has(Evidence::JSONRPC)
            .methods(&["tools/list"]),
        case("batch", post("", r#"[{"jsonrpc":"2.0","method":"ping","id":1},{"jsonrpc":"2.0","method":"prompts/get","id":2}]"#), Mcp)
            .methods(&["ping", "prompts/get"]),
        case("chunks cut a word", chunked("POST /mcp HTTP/1.1\r\n", &[r#"{"json"#, r#"rpc":"2.0","method":"too"#, r#"ls/call"}"#]), Mcp)
            .has(Evidence::JSONRPC)
            .methods(&["tools/call"]),
        case("SSE answer", chunked("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nmcp-session-id: 1\r\n", &["data: \nid: 0\nretry: 3000\n\n", "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-11-25\"}}\n\n"]), Mcp)
            .has(Evidence::HTTP_RESPONSE.or(Evidence::MCP_REVISION).or(Evidence::EVENT_STREAM)),
        case("endpoint event", chunked("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", &["event: endpoint\r\ndata: /messages/?session_id=1\r\n\r\n"]), Mcp)
            .has(Evidence::MCP_ENDPOINT_EVENT),
        case("endpoint event, bare line feeds", "HTTP/1.1 200 OK\r\n\r\nevent: endpoint\ndata: /messages\n\n", Mcp)
            .has(Evidence::MCP_ENDPOINT_EVENT),
        case("another SSE API", chunked("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", &["event: message_start\ndata: {\"id\":\"chatcmpl\"}\n\n"]), Http1)
            .has_not(Evidence::MCP_DECISIVE),
        case("WebSocket", "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat, mcp\r\n\r\n", Mcp)
            .has(Evidence::MCP_WEBSOCKET),
        case("WebSocket of another", "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: mcpx\r\n\r\n", Http1),
        case("raw lines", format!("{CALL}\n{CALL}\n"), Mcp).has(Evidence::RAW_JSON).methods(&["tools/call"]),
        case("raw JSON that is no JSON-RPC", "{\"type\":\"request\",\"command\":\"initialize\"}\n", None),
        case("shared method alone", post("", r#"{"jsonrpc":"2.0","method":"ping","id":1}"#), JsonRpc)
            .methods(&["ping"]),
        case("shared method with MCP's Accept", post("Accept: text/event-stream, application/json\r\n", r#"{"jsonrpc":"2.0","method":"ping","id":1}"#), Mcp)
            .methods(&["ping"]),
        case("Ethereum", post("", r#"{"jsonrpc": "2.0", "method": "eth_chainId", "params": [], "id": 0}"#), JsonRpc)
            .has(Evidence::OTHER_METHOD),
        case("A2A 0.3", post("", r#"{"jsonrpc":"2.0","method":"tasks/get","params":{"id":"1"},"id":1}"#), JsonRpc)
            .methods(&["tasks/get"]),
        case("A2A 1.0", post("A2A-Version: 1.0\r\n", r#"{"method":"SendMessage","jsonrpc":"2.0"}"#), JsonRpc)
            .has(Evidence::A2A),
        case("LSP", format!("Content-Length: {}\r\n\r\n{LSP}", LSP.len()), JsonRpc)
            .has(Evidence::LSP_FRAMING)
            .methods(&["initialize"]),
        case("GraphQL", post("Content-Type: application/json\r\n", r#"{"query":"{ tools { list } }"}"#), Http1),
        case("text about it", post("Content-Type: text/plain\r\n", r#"send {"jsonrpc":"2.0","method":"tools/call"}"#), Http1)
            .has_not(Evidence::JSONRPC),
        case("a string about it", post("", r#"{"text":"{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\"}"}"#), Http1)
            .has_not(Evidence::JSONRPC),
        case("a log line that holds a message", post("", r#"{"log":{"jsonrpc":"2.0","method":"tools/call"}}"#), Http1)
            .has_not(Evidence::JSONRPC),
        case("a body that looks like a head", post("", "POST /x HTTP/1.1\r\nMcp-Session-Id: 1\r\n\r\n"), Http1)
            .has_not(Evidence::MCP_SESSION),
        case("a target that looks like a header", "GET /?q=authorization:bearer HTTP/1.1\r\n\r\n", Http1)
            .has_not(Evidence::CREDENTIALS),
        case("pipelined", format!("GET /healthz HTTP/1.1\r\n\r\n{}", post("", CALL)), Mcp).methods(&["tools/call"]),
        case("a second message after a body", format!("{}{}", post("", "{}"), post("X-Api-Key: k\r\n", CALL)), Mcp)
            .has(Evidence::API_KEY)
            .methods(&["tools/call"]),
        case("answer without a body", format!("HTTP/1.1 204 No Content\r\n\r\n{}", "HTTP/1.1 200 OK\r\nMcp-Session-Id: 1\r\nContent-Length: 0\r\n\r\n"), Mcp),
        case("Basic", "GET / HTTP/1.1\r\nAuthorization: basic eDp5\r\n\r\n", Http1)
            .has(Evidence::AUTH_BASIC)
            .has_not(Evidence::AUTH_OTHER),
        case("another scheme", "GET / HTTP/1.1\r\nAuthorization: BearX y\r\n\r\n", Http1)
            .has(Evidence::AUTH_OTHER)
            .has_not(Evidence::AUTH_BEARER),
        case("cookies", "GET / HTTP/1.1\r\ncOOkie: a=b\r\n\r\n", Http1).has(Evidence::COOKIE),
        case("cookie is another word", "GET / HTTP/1.1\r\nCookies: a=b\r\nX-Cookie: 1\r\n\r\n", Http1)
            .has_not(Evidence::COOKIE),
        case("Set-Cookie", "HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", Http1)
            .has(Evidence::SET_COOKIE),
        case("a head of 8 KB", post(&format!("X-Long: {}\r\nAuthorization: Bearer {}\r\n", "y".repeat(7000), "z".repeat(1400)), CALL), Mcp)
            .has(Evidence::AUTH_BEARER)
            .methods(&["tools/call"]),
        case("h2c", h2c(&[frame(1, 4, 1, &[0x82, 0x86]), frame(0, 1, 1, CALL.as_bytes())]), Mcp)
            .has(Evidence::H2C_PREFACE)
            .methods(&["tools/call"]),
        case("h2c, data in two frames", h2c(&[frame(0, 0, 3, &CALL.as_bytes()[..40]), frame(8, 0, 0, &[0, 0, 0, 9]), frame(0, 1, 3, &CALL.as_bytes()[40..])]), Mcp)
            .methods(&["tools/call"]),
        case("h2c without data", h2c(&[frame(1, 5, 1, &[0x82, 0x86])]), H2c),
        case("namespace", post("", r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.modelcontextprotocol/serverInfo":{}}}}"#), Mcp)
            .has(Evidence::MCP_NAMESPACE),
        case("SSH", "SSH-2.0-OpenSSH_9.2\r\n", None),
    ]
}

fn check(case: &Case, ends: &[usize]) {
    let shown = read(&case.stream, ends);
    let name = case.name;
    assert_eq!(shown.protocol, case.protocol as u8, "{name} at {ends:?}: {shown:?}");
    for evidence in case.has.names() {
        assert!(shown.evidence.contains(&evidence), "{name} at {ends:?} has no {evidence}: {shown:?}");
    }
    for evidence in case.has_not.names() {
        assert!(!shown.evidence.contains(&evidence), "{name} at {ends:?} has {evidence}: {shown:?}");
    }
    assert_eq!(shown.methods, case.methods, "{name} at {ends:?}");
}

#[test]
fn every_stream_shows_what_it_is() {
    for case in cases() {
        check(&case, &[]);
    }
}

#[test]
fn a_split_at_any_byte_changes_nothing() {
    for case in cases() {
        let whole = read(&case.stream, &[]);
        for end in 0..case.stream.len().min(2048) {
            assert_eq!(read(&case.stream, &[end]), whole, "{} split at {end}", case.name);
        }
    }
}

#[test]
fn byte_by_byte_changes_nothing() {
    for case in cases() {
        let ends: Vec<usize> = (1..case.stream.len()).collect();
        assert_eq!(read(&case.stream, &ends), read(&case.stream, &[]), "{}", case.name);
    }
}

proptest! {
    #[test]
    fn random_segments_change_nothing(index in any::<prop::sample::Index>(), mut ends in prop::collection::vec(0_usize..4096, 0..20)) {
        let cases = cases();
        let case = index.get(&cases);
        ends.sort_unstable();
        prop_assert_eq!(read(&case.stream, &ends), read(&case.stream, &[]));
    }

    #[test]
    fn random_bytes_are_taken_whole_and_stay_what_they_were(bytes in prop::collection::vec(any::<u8>(), 0..3000), more in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut work = Work::new(Side::new(), WINDOW);
        let mut protocol = 0;
        for piece in [&bytes, &more] {
            let side = work.side;
            work.prepare(&side, WINDOW, false);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let taken = step(&Frame(rest), &mut work, 0, rest.len() as u32) as usize;
                prop_assert!((1..=rest.len()).contains(&taken));
                rest = &rest[taken..];
            }
            let found = work.finish(false);
            // Random bytes are no MCP.
            prop_assert!(found.protocol != Protocol::Mcp as u8);
            protocol = found.protocol.max(protocol);
        }
    }

    #[test]
    fn a_message_in_random_noise_after_it_is_still_found(noise in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut stream = post("", CALL).into_bytes();
        stream.extend(noise);
        prop_assert_eq!(read(&stream, &[]).protocol, Protocol::Mcp as u8);
    }
}

#[test]
fn hellos_and_alerts_are_tls_from_the_byte_that_decides() {
    let hellos: [&[u8]; 6] = [
        &[0x16, 3, 1, 6, 1, 1, 0, 5, 0xfd, 3, 3],
        &[0x16, 3, 3, 0, 0x7a, 2, 0, 0, 0x76, 3, 3],
        &[0x16, 3, 0, 0, 0xff, 1, 0, 0, 0xff, 3, 0],
        &[0x16, 3, 3, 0x0d, 0x0a, 1, 0, 0x0a, 0x0d, 3, 3],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0x15, 3, 1, 0, 2, 1, 0],
    ];
    for hello in hellos {
        let decided = read(hello, &[]).phase;
        assert!(decided == Phase::Hello as u8 || decided == Phase::Tls as u8, "{hello:?}");
        for end in 0..hello.len() {
            assert_eq!(read(&hello[..end], &[]).phase, Phase::Start as u8, "{hello:?} to {end}");
            assert_eq!(read(hello, &[end]).phase, decided, "{hello:?} split at {end}");
        }
    }
    let others: [&[u8]; 4] = [
        &[0x16, 3, 5, 6, 1, 1, 0, 5, 0xfd, 3, 3, 0, 0],
        &[0x16, 3, 1, 6, 1, 4, 0, 5, 0xfd, 3, 3, 0, 0],
        &[0x16, 3, 1, 6, 1, 1, 1, 5, 0xfd, 3, 3, 0, 0],
        &[0x17, 3, 3, 0, 100, 1, 2, 3, 4, 5, 6, 7, 8],
    ];
    for other in others {
        assert_eq!(read(other, &[]).phase, Phase::Opaque as u8, "{other:?}");
    }
}

mod hello;
mod others;
