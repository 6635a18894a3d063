//! Owns the head of an HTTP message: which of its fields count, and what their values may say.
//!
//! A field counts by its whole name at the start of a line (RFC 9112 §5). Of most only the presence counts.

use super::{super::builder::Builder, DIGITS, SPACE, Token};

/// The states of a head that others lead to.
pub(super) struct Head {
    /// Where a header line begins.
    pub(super) line: u16,
    /// The rest of a line of which nothing counts.
    pub(super) rest: u16,
    /// The value of `Content-Length`.
    pub(super) length: u16,
}

pub(super) const fn head(b: &mut Builder) -> Head {
    let rest = b.state();
    let line = b.state();
    b.on(rest, b"\n", line);
    b.all(line, rest);
    let end = b.state();
    let end = b.accept(Token::EndOfHead as u8, end);
    let blank = b.like(rest);
    b.on(blank, b"\n", end);
    b.on(line, b"\r", blank);
    b.on(line, b"\n", end);

    let length = b.like(rest);
    b.on(length, SPACE, length);
    let digit = b.accept(Token::LengthDigit as u8, rest);
    b.on(digit, DIGITS, digit);
    b.on(length, DIGITS, digit);
    header(b, line, b"content-length", length);

    let value = list(b, rest, line);
    item(b, value, b"chunked", Token::Chunked);
    header(b, line, b"transfer-encoding", value);
    let value = list(b, rest, line);
    item(b, value, b"application/json", Token::AcceptJson);
    item(b, value, b"text/event-stream", Token::AcceptEventStream);
    header(b, line, b"accept", value);
    let value = list(b, rest, line);
    item(b, value, b"application/json", Token::ContentJson);
    item(b, value, b"text/event-stream", Token::ContentEventStream);
    item(b, value, b"application/a2a+json", Token::A2a);
    header(b, line, b"content-type", value);
    let value = list(b, rest, line);
    item(b, value, b"kube-probe/", Token::KubeProbe);
    header(b, line, b"user-agent", value);

    // `Sec-WebSocket-Protocol: mcp`, alone or in a list; `mcpx` is another protocol.
    let value = list(b, rest, line);
    let name = b.path(value, b"mcp");
    let end = b.accept(Token::McpWebSocket as u8, rest);
    b.on(name, b", ;\r", end);
    let end = b.accept(Token::McpWebSocket as u8, line);
    b.on(name, b"\n", end);
    header(b, line, b"sec-websocket-protocol", value);

    authorization(b, rest, line);
    mark(b, rest, line, b"proxy-authorization", Token::ProxyAuthorization);
    mark(b, rest, line, b"cookie", Token::Cookie);
    mark(b, rest, line, b"set-cookie", Token::SetCookie);
    mark(b, rest, line, b"x-api-key", Token::ApiKey);
    mark(b, rest, line, b"api-key", Token::ApiKey);
    mark(b, rest, line, b"apikey", Token::ApiKey);
    mark(b, rest, line, b"x-auth-token", Token::ApiKey);
    mark(b, rest, line, b"x-goog-api-key", Token::ApiKey);
    mark(b, rest, line, b"mcp-session-id", Token::McpSession);
    mark(b, rest, line, b"mcp-protocol-version", Token::McpVersion);
    mark(b, rest, line, b"mcp-method", Token::McpMethod);
    mark(b, rest, line, b"mcp-name", Token::McpMethod);
    mark(b, rest, line, b"a2a-version", Token::A2a);
    let parameter = b.path(line, b"mcp-param");
    let end = b.accept(Token::McpMethod as u8, rest);
    b.on(parameter, b"-", end);

    Head { line, rest, length }
}

/// Lays a header's name over the start of a line; its colon leads to `value`.
const fn header(b: &mut Builder, line: u16, name: &[u8], value: u16) {
    let end = b.path(line, name);
    b.on(end, b":", value);
}

/// Lays a header of which only the presence counts.
const fn mark(b: &mut Builder, rest: u16, line: u16, name: &[u8], token: Token) {
    let end = b.accept(token as u8, rest);
    header(b, line, name, end);
}

/// A value that is a list; its items are to be laid over it.
const fn list(b: &mut Builder, rest: u16, line: u16) -> u16 {
    let value = b.state();
    let other = b.like(rest);
    b.all(other, other);
    b.on(other, b"\n", line);
    b.on(other, b",", value);
    b.copy(other, value);
    b.on(value, SPACE, value);
    value
}

/// Lays an item over a list.
const fn item(b: &mut Builder, list: u16, name: &[u8], token: Token) {
    let (word, last) = name.split_at(name.len() - 1);
    let end = b.path(list, word);
    let token = b.accept(token as u8, end);
    b.on(end, last, token);
}

const fn authorization(b: &mut Builder, rest: u16, line: u16) {
    let other = b.accept(Token::AuthorizationOther as u8, rest);
    // A scheme that is none of the words says so with its first byte that differs.
    let scheme = b.state();
    b.all(scheme, other);
    b.on(scheme, b"\n", line);
    let value = b.state();
    b.all(value, scheme);
    b.on(value, SPACE, value);
    b.on(value, b"\r", rest);
    b.on(value, b"\n", line);
    let bearer = b.path_or(value, b"bearer", scheme);
    let end = b.accept(Token::AuthorizationBearer as u8, rest);
    b.on(bearer, b" ", end);
    let basic = b.path_or(value, b"basic", scheme);
    let end = b.accept(Token::AuthorizationBasic as u8, rest);
    b.on(basic, b" ", end);
    header(b, line, b"authorization", value);
}
