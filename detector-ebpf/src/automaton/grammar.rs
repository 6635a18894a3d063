//! Owns the grammar: what a stream may begin with, and what counts in a head, a body or a line.
//!
//! Five roots: [`START`] where a stream or a message begins, [`LINE`] where a header line begins, [`CONTENT`]
//! where a body begins, [`CHUNK_SIZE`] where a chunk begins, and [`DEAD`]. JSON is lexed, not searched: a
//! word counts only as a whole string that is a member's name or value, never inside another string.

mod head;
mod others;
mod text;

use head::{Head, head};

use super::builder::{Builder, Table};
use crate::method::METHODS;

/// A token: what the automaton says when it has read the last byte of something that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a token is named after the evidence or the grammar rule that it ends")]
#[repr(u8)]
pub enum Token {
    TlsClientHello = 1,
    TlsClientHelloWeak,
    TlsServerHello,
    TlsServerHelloWeak,
    TlsAlert,
    UnknownStart,
    H2cPreface,
    HttpRequest,
    HttpHeadRequest,
    HttpResponse,
    HttpResponseWithoutBody,
    LspHeader,
    RawJson,
    RawJsonBatch,
    EndOfHead,
    LengthDigit,
    Chunked,
    ChunkDigit,
    EndOfChunkSize,
    Batch,
    ContentUnknown,
    AcceptJson,
    AcceptEventStream,
    ContentJson,
    ContentEventStream,
    AuthorizationOther,
    AuthorizationBearer,
    AuthorizationBasic,
    ProxyAuthorization,
    Cookie,
    SetCookie,
    ApiKey,
    McpSession,
    McpVersion,
    McpMethod,
    McpWebSocket,
    McpEndpointEvent,
    A2a,
    KubeProbe,
    JsonRpc,
    McpRevision,
    McpNamespace,
    OtherMethod,
    SniIstio,
    SniLinkerd,
    AlpnIstio,
    AlpnLinkerd,
    AlpnKuma,
    AlpnH2,
    RedisArray,
    PostgresStartup,
    PostgresSslRequest,
    MysqlGreeting,
    MysqlSslRequest,
    MysqlPassword,
    MongoMessage,
    AmqpHeader,
    NatsLine,
    KafkaRequest,
    KafkaVersions,
    KafkaPlain,
    KafkaPassword,
    MqttConnect,
    MemcachedCommand,
    MemcachedOpening,
    ZookeeperConnect,
    AmqpTls,
    Ssl2Hello,
    CassandraOptions,
    CassandraStartup,
    CassandraPassword,
    LdapMessage,
    LdapExtended,
    Greeting220,
    ImapGreeting,
    Pop3Greeting,
    SmtpHello,
    FtpUser,
    PlainCommand,
    XmppStream,
    LengthByte,
    ProxyLengthEnd,
    PasswordCommand,
    RedisAuth,
    PostgresPassword,
    MqttPassword,
    LdapSimpleBind,
    AmqpStart,
    NatsPassword,
    NatsInfo,
    /// The first of MCP's methods; the others follow in the order of [`METHODS`].
    FirstMethod = 95,
}

const _: () = assert!(Token::FirstMethod as usize + METHODS.len() <= 256);

/// What the grammar is made into.
struct Grammar {
    builder: Builder,
    start: u16,
    line: u16,
    content: u16,
    chunk_size: u16,
    skip: u16,
    dead: u16,
    server_name: u16,
    protocol_name: u16,
    command: u16,
}

const GRAMMAR: Grammar = grammar();

/// The table.
pub(super) const TABLE: Table = GRAMMAR.builder.finish();
/// Where a stream or a message begins.
pub const START: u16 = GRAMMAR.start;
/// Where a header line begins.
pub const LINE: u16 = GRAMMAR.line;
/// Where a body begins.
pub const CONTENT: u16 = GRAMMAR.content;
/// Where a chunk begins (RFC 9112 §7.1).
pub const CHUNK_SIZE: u16 = GRAMMAR.chunk_size;
/// Content of which nothing counts.
pub const SKIP: u16 = GRAMMAR.skip;
/// A stream that began with nothing known.
pub const DEAD: u16 = GRAMMAR.dead;
/// Where a line of a protocol begins that may turn to TLS.
pub const COMMAND: u16 = GRAMMAR.command;
/// Where a TLS server name begins.
pub const SERVER_NAME: u16 = GRAMMAR.server_name;
/// Where a name of the ALPN list begins.
pub const PROTOCOL_NAME: u16 = GRAMMAR.protocol_name;

const DIGITS: &[u8] = b"0123456789";
const SPACE: &[u8] = b" \t";

const fn grammar() -> Grammar {
    let mut b = Builder::new();
    b.name(b"abcdefghijklmnopqrstuvwxyz01234");
    b.name_alike(b"56789");
    b.name(b" \t\r\n\"\\{}[]:,;/-_.*+<?");
    b.name(&[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0f, 0x10, 0x11, 0x12, 0x15, 0x16]);
    b.name(b"$`");
    b.name(&[0x80, 0xce, 0xd2, 0xd4, 0xdd, 0xfe]);
    b.name_alike(&[0x81, 0x82, 0x83, 0x84]);
    b.name_alike(others::KEYS);
    b.name_alike(others::PASSWORD_FLAGS);

    let dead = b.state();
    let skip = b.state();
    let json = json(&mut b);
    let content = content(&mut b, &json, skip);
    let head = head(&mut b);
    let chunk_size = chunk_size(&mut b);
    let (start, command) = start(&mut b, &json, &head, dead);
    let server_name = server_name(&mut b);
    let protocol_name = protocol_name(&mut b, skip);
    Grammar {
        builder: b,
        start,
        line: head.line,
        content,
        chunk_size,
        skip,
        dead,
        server_name,
        protocol_name,
        command,
    }
}

/// The server names that meshes send: Istio's subset key (`outbound_.<port>_.<subset>_.<host>`), and
/// Linkerd's identity (`<account>.<namespace>.serviceaccount.identity.<control plane>.<trust domain>`).
const fn server_name(b: &mut Builder) -> u16 {
    let rest = b.state();
    let label = b.like(rest);
    b.all(label, rest);
    b.on(rest, b".", label);
    b.on(label, b".", label);
    let root = b.like(label);
    let end = b.path(root, b"outbound_");
    let token = b.accept(Token::SniIstio as u8, label);
    b.on(end, b".", token);
    let end = b.path(label, b"serviceaccount.identity");
    let token = b.accept(Token::SniLinkerd as u8, rest);
    b.on(end, b".", token);
    root
}

/// The protocol names that meshes send. `h2` is one of no mesh but on HBONE's port.
const fn protocol_name(b: &mut Builder, skip: u16) -> u16 {
    let root = b.state();
    b.all(root, skip);
    let end = b.path(root, b"isti");
    let token = b.accept(Token::AlpnIstio as u8, skip);
    b.on(end, b"o", token);
    let end = b.path(root, b"transport.l5d.io");
    let token = b.accept(Token::AlpnLinkerd as u8, skip);
    b.on(end, b"/", token);
    let end = b.path(root, b"kum");
    let token = b.accept(Token::AlpnKuma as u8, skip);
    b.on(end, b"a", token);
    let end = b.path(root, b"h");
    let token = b.accept(Token::AlpnH2 as u8, skip);
    b.on(end, b"2", token);
    root
}

/// The states of JSON that others lead to.
struct Json {
    /// Outside of any string.
    between: u16,
    /// After an opening bracket.
    open: u16,
}

const fn json(b: &mut Builder) -> Json {
    let between = b.state();
    let open = b.state();
    let close = b.state();
    let string = b.state();
    let escape = b.state();
    b.opens(open);
    b.closes(close);

    b.on(string, b"\\", escape);
    b.on(string, b"\"", between);
    b.all(escape, string);

    let opening = b.like(string);
    b.on(between, b"\"", opening);
    b.on(between, b"{[", open);
    b.on(between, b"}]", close);
    b.copy(between, open);
    b.copy(between, close);

    let value = member(b, opening, b"jsonrpc\"", between);
    let version = b.like(string);
    b.on(value, b"\"", version);
    let end = b.path(version, b"2.0");
    let token = b.accept(Token::JsonRpc as u8, between);
    b.on(end, b"\"", token);

    let value = member(b, opening, b"protocolversion\"", between);
    let revision = b.like(string);
    b.on(value, b"\"", revision);
    // Every revision is a date; other protocols count theirs from 0 or 1.
    let century = b.path(revision, b"2");
    let token = b.accept(Token::McpRevision as u8, string);
    b.on(century, b"0", token);

    let value = member(b, opening, b"method\"", between);
    methods(b, value, between);

    // Any member of MCP's namespace, whatever follows the slash.
    let name = b.state();
    let name_escape = b.state();
    b.all(name_escape, name);
    b.on(name, b"\\", name_escape);
    let slash = b.path(opening, b"io.modelcontextprotocol");
    b.on(slash, b"/", name);
    let named = b.like(between);
    b.on(name, b"\"", named);
    b.on(named, b" \t\r\n", named);
    let token = b.accept(Token::McpNamespace as u8, between);
    b.on(named, b":", token);

    Json { between, open }
}

/// Lays a member's name, closing quote included, and answers the state before its value.
const fn member(b: &mut Builder, opening: u16, name: &[u8], between: u16) -> u16 {
    let named = b.like(between);
    let value = b.like(between);
    b.on(named, b" \t\r\n", named);
    b.on(named, b":", value);
    b.on(value, b" \t\r\n", value);
    let (word, quote) = name.split_at(name.len() - 1);
    let end = b.path(opening, word);
    b.on(end, quote, named);
    value
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
const fn methods(b: &mut Builder, value: u16, between: u16) {
    let other = b.accept(Token::OtherMethod as u8, between);
    let string = b.state();
    let escape = b.state();
    b.all(escape, string);
    b.on(string, b"\\", escape);
    b.on(string, b"\"", other);
    let opening = b.like(string);
    b.on(value, b"\"", opening);
    // All paths first: a node is made as a copy of the string, before its own closing quote is set.
    let mut index = 0;
    while index < METHODS.len() {
        let _end = b.path(opening, METHODS[index].name.as_bytes());
        index += 1;
    }
    index = 0;
    while index < METHODS.len() {
        let end = b.path(opening, METHODS[index].name.as_bytes());
        let token = b.accept(Token::FirstMethod as u8 + index as u8, between);
        b.on(end, b"\"", token);
        index += 1;
    }
}

/// A body: JSON, server-sent events, or something else.
const fn content(b: &mut Builder, json: &Json, skip: u16) -> u16 {
    let unknown = b.accept(Token::ContentUnknown as u8, skip);
    let broken = b.state();
    b.all(broken, unknown);

    let field = b.state();
    let line = b.like(field);
    b.on(field, b"\n", line);
    b.all(line, field);
    b.on(line, b"\r\n", line);

    let batch = b.accept(Token::Batch as u8, json.between);
    b.opens(batch);
    let data = b.like(field);
    b.on(data, b" ", data);
    b.on(data, b"{", json.open);
    b.on(data, b"[", batch);

    let event = b.like(field);
    b.on(event, b" ", event);
    let name = b.path(event, b"endpoint");
    let end = b.accept(Token::McpEndpointEvent as u8, field);
    b.on(name, b"\r", end);
    let end = b.accept(Token::McpEndpointEvent as u8, line);
    b.on(name, b"\n", end);

    let root = b.like(broken);
    b.all(root, broken);
    b.on(root, b" \t\r\n", root);
    b.on(root, b"{", json.open);
    b.on(root, b"[", batch);
    b.on(root, b":", field);
    b.on(line, b":", field);
    let mut index = 0;
    let fields: [(&[u8], u16); 4] = [(b"data", data), (b"event", event), (b"id", field), (b"retry", field)];
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
    while index < fields.len() {
        let (name, value) = fields[index];
        let end = b.path_or(root, name, broken);
        b.on(end, b":", value);
        let end = b.path(line, name);
        b.on(end, b":", value);
        index += 1;
    }
    root
}

const fn chunk_size(b: &mut Builder) -> u16 {
    let end = b.state();
    let end = b.accept(Token::EndOfChunkSize as u8, end);
    let extension = b.state();
    b.on(extension, b"\n", end);
    let digit = b.accept(Token::ChunkDigit as u8, extension);
    b.on(digit, b"0123456789abcdef", digit);
    let root = b.like(digit);
    // The line break that ends the chunk before.
    b.on(root, b"\r\n", root);
    root
}

/// What a stream, or a message on it, may begin with.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
const fn start(b: &mut Builder, json: &Json, head: &Head, dead: u16) -> (u16, u16) {
    let unknown = b.accept(Token::UnknownStart as u8, dead);
    let broken = b.state();
    b.all(broken, unknown);
    let ssl2 = b.accept(Token::Ssl2Hello as u8, broken);
    let first = others::first(b, broken, unknown, ssl2);
    let root = b.state();
    b.all(root, first.byte());
    // RFC 9112 §2.2: an empty line before a request line is to be ignored.
    b.on(root, b"\r\n", root);

    let (major, alert) = tls(b, root, broken);
    // MySQL's request for a password is as long as the number of TLS's record type.
    b.on(major, &[0x00], first.two_short);
    b.on(first.packet, &[0x16], major);
    others::binary(b, root, &first, unknown);
    let command = text::text(b, root, &first, major, alert, unknown);

    // PostgreSQL answers an SSLRequest with one byte, and then the stream goes on.
    let yes = first.word(b, root, b"s");
    b.on(yes, &[0x16], major);

    let requests: [&[u8]; 6] = [b"post", b"put", b"delete", b"options", b"patch", b"trace"];
    let target = request_target(b, Token::HttpRequest, head.rest, unknown, broken);
    let mut index = 0;
    while index < requests.len() {
        let end = first.word(b, root, requests[index]);
        b.on(end, b" ", target);
        index += 1;
    }
    // Memcached has a `get` too, whose line ends behind its keys.
    let key = b.state();
    let get = b.accept(Token::MemcachedOpening as u8, broken);
    b.on(key, b"\r", get);
    b.on(key, b"\n", unknown);
    let version = b.after(target, b' ');
    b.on(key, b" ", version);
    let begin = b.like(target);
    b.all(begin, key);
    b.on(begin, b"/", target);
    b.on(begin, b" \r\n", unknown);
    let end = first.word(b, root, b"get");
    b.on(end, b" ", begin);
    // NATS has a `CONNECT` too, of JSON.
    let connect = b.like(target);
    let options = text::nats_options(b, broken);
    b.on(connect, b"{", options);
    let end = first.word(b, root, b"connect");
    b.on(end, b" ", connect);
    let target = request_target(b, Token::HttpHeadRequest, head.rest, unknown, broken);
    let end = first.word(b, root, b"head");
    b.on(end, b" ", target);

    let status = status(b, head.rest, broken);
    let end = first.word(b, root, b"http/1.1");
    b.on(end, b" ", status);
    let end = first.word(b, root, b"http/1.0");
    b.on(end, b" ", status);

    // RFC 9113 §3.4.
    let end = first.word(b, root, b"pri * http/2.0\r\n\r\nsm\r\n\r");
    let preface = b.accept(Token::H2cPreface as u8, dead);
    b.on(end, b"\n", preface);

    let end = first.word(b, root, b"content-length");
    let framed = b.accept(Token::LspHeader as u8, head.length);
    b.on(end, b":", framed);

    let raw = b.accept(Token::RawJson as u8, json.between);
    b.opens(raw);
    b.on(root, b"{", raw);
    let raw = b.accept(Token::RawJsonBatch as u8, json.between);
    b.opens(raw);
    b.on(root, b"[", raw);
    (root, command)
}

/// `request-target HTTP/1.x` of a request line (RFC 9112 §3).
const fn request_target(b: &mut Builder, token: Token, rest: u16, unknown: u16, broken: u16) -> u16 {
    let target = b.state();
    b.on(target, b"\r\n", unknown);
    let version = b.like(broken);
    b.on(target, b" ", version);
    let end = b.path_or(version, b"http/1.", broken);
    let request = b.accept(token as u8, rest);
    b.on(end, b"01", request);
    target
}

/// The status code of a status line (RFC 9112 §4). 1xx, 204 and 304 have no body (§6.3).
const fn status(b: &mut Builder, rest: u16, broken: u16) -> u16 {
    let response = b.accept(Token::HttpResponse as u8, rest);
    let without_body = b.accept(Token::HttpResponseWithoutBody as u8, rest);
    let third = b.like(broken);
    b.on(third, DIGITS, response);
    let second = b.like(broken);
    b.on(second, DIGITS, third);
    let first = b.like(broken);
    b.on(first, b"2345", second);

    let interim_third = b.like(broken);
    b.on(interim_third, DIGITS, without_body);
    let interim_second = b.like(broken);
    b.on(interim_second, DIGITS, interim_third);
    b.on(first, b"1", interim_second);

    let zero_four = b.like(third);
    b.on(zero_four, b"4", without_body);
    let zero = b.like(second);
    b.on(zero, b"0", zero_four);
    b.on(first, b"23", zero);
    first
}

/// The first eleven bytes of a TLS hello: record type, version and length, handshake type and length, and
/// the legacy version (RFC 8446 §4.1.2, §4.1.3, §5.1); or an alert in answer to one (§6).
const fn tls(b: &mut Builder, root: u16, broken: u16) -> (u16, u16) {
    const VERSIONS: &[u8] = &[0x00, 0x01, 0x02, 0x03, 0x04];
    let client = b.accept(Token::TlsClientHello as u8, broken);
    let weak = b.accept(Token::TlsClientHelloWeak as u8, broken);
    let after_client = tls_legacy_version(b, client, weak, broken);
    let server = b.accept(Token::TlsServerHello as u8, broken);
    let weak = b.accept(Token::TlsServerHelloWeak as u8, broken);
    let after_server = tls_legacy_version(b, server, weak, broken);

    // The record's length is kept, for the hello may go on in another one.
    let handshake = b.accept(Token::LengthByte as u8, broken);
    b.on(handshake, &[0x01], after_client);
    b.on(handshake, &[0x02], after_server);
    let length_low = b.state();
    let length_low = b.accept(Token::LengthByte as u8, length_low);
    b.all(length_low, handshake);
    let length = b.state();
    b.all(length, length_low);
    let minor = b.like(broken);
    b.on(minor, VERSIONS, length);
    let major = b.like(broken);
    b.on(major, &[0x03], minor);
    b.on(root, &[0x16], major);
    let hello = major;

    let alert = b.accept(Token::TlsAlert as u8, broken);
    let description = b.state();
    b.all(description, alert);
    let level = b.like(broken);
    b.on(level, &[0x01, 0x02], description);
    let length_low = b.like(broken);
    b.on(length_low, &[0x02], level);
    let length = b.like(broken);
    b.on(length, &[0x00], length_low);
    let minor = b.like(broken);
    b.on(minor, VERSIONS, length);
    let major = b.like(broken);
    b.on(major, &[0x03], minor);
    b.on(root, &[0x15], major);
    (hello, major)
}

/// A handshake's length, below 64 KiB, and the legacy version that follows it.
const fn tls_legacy_version(b: &mut Builder, hello: u16, weak: u16, broken: u16) -> u16 {
    let minor = b.like(broken);
    // SSL 3.0, TLS 1.0 and 1.1; what is above says 1.2 here (RFC 8446 §4.1.2).
    b.on(minor, &[0x00, 0x01, 0x02], weak);
    b.on(minor, &[0x03, 0x04], hello);
    let major = b.like(broken);
    b.on(major, &[0x03], minor);
    let low = b.state();
    b.all(low, major);
    let middle = b.state();
    b.all(middle, low);
    let high = b.like(broken);
    b.on(high, &[0x00], middle);
    high
}
