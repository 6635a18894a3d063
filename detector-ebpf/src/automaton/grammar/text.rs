//! Owns the beginnings of text protocols that are not HTTP: caches, brokers, mail, file transfer, chat.
//!
//! One is believed by a word in its place. Where it may turn to TLS, its beginning is a greeting and no verdict,
//! and what a client commands without it declines TLS; a login that can be read is one of these commands.

use super::{
    super::builder::Builder,
    DIGITS, Token,
    others::{First, any, chain},
};

/// Text: caches, brokers, mail, file transfer, chat.
pub(super) const fn text(
    b: &mut Builder,
    root: u16,
    first: &First,
    major: u16,
    alert: u16,
    unknown: u16,
) -> u16 {
    let broken = first.broken;
    let Commands { rest, line, user } = commands(b, major, alert);

    redis(b, root, first);

    // IMAP (RFC 9051 §7.1), POP3 (RFC 1939 §4), SMTP (RFC 5321 §4.2) and FTP (RFC 959 §4.2).
    // What a server says may read like a command, as the list of what `AUTH` takes does.
    let said = replies(b, major, alert);
    let imap = b.accept(Token::ImapGreeting as u8, said);
    let end = first.word(b, root, b"* ok");
    b.on(end, b" \r", imap);
    let end = first.word(b, root, b"* preauth");
    b.on(end, b" \r", imap);
    let pop3 = b.accept(Token::Pop3Greeting as u8, said);
    let end = first.word(b, root, b"+ok");
    b.on(end, b" ", pop3);
    let mail = b.accept(Token::Greeting220 as u8, said);
    let end = first.word(b, root, b"220");
    b.on(end, b" -", mail);
    let hello = b.accept(Token::SmtpHello as u8, rest);
    let end = first.word(b, root, b"ehlo");
    b.on(end, b" ", hello);
    let end = first.word(b, root, b"helo");
    b.on(end, b" ", hello);
    let named = b.accept(Token::FtpUser as u8, user);
    let end = first.word(b, root, b"user");
    b.on(end, b" ", named);
    // FTP (RFC 4217 §4): the client asks for TLS, or for what the server can do, before it logs in.
    let asked = b.accept(Token::FtpUser as u8, rest);
    let end = first.word(b, root, b"auth ");
    b.on(end, b"ts", asked);
    let end = first.word(b, root, b"feat");
    b.on(end, b"\r", asked);
    let end = first.word(b, root, b"opts");
    b.on(end, b" ", asked);

    // XMPP (RFC 6120 §4): a stream that may turn to TLS between two elements.
    let xml = b.state();
    let element = b.like(xml);
    b.on(xml, b"<", element);
    b.all(element, xml);
    b.on(xml, &[0x16], major);
    let plain = b.accept(Token::PlainCommand as u8, xml);
    // RFC 6120 §6.4.2: how the client logs in stands in an attribute, before what it logs in with.
    let auth = b.state();
    b.on(auth, b"<", plain);
    let attribute = b.like(auth);
    b.on(auth, b" ", attribute);
    b.on(attribute, b" ", attribute);
    let other = b.state();
    b.all(other, plain);
    let password = b.accept(Token::PasswordCommand as u8, xml);
    let value = b.like(other);
    let mechanism = b.path_or(value, b"plai", other);
    b.on(mechanism, b"n", password);
    let quote = any(b, 1, value);
    let name = b.path(attribute, b"mechanism");
    b.all(name, quote);
    let end = b.path(element, b"auth");
    b.on(end, b" ", attribute);
    let end = b.path(element, b"iq");
    b.on(end, b" ", plain);
    let end = b.path(element, b"presenc");
    b.on(end, b"e", plain);
    let stream = b.accept(Token::XmppStream as u8, xml);
    let end = first.word(b, root, b"<stream");
    b.on(end, b":", stream);
    let end = first.word(b, root, b"<?xml");
    b.on(end, b" ", stream);

    // NATS: what a server says first. TLS may follow it.
    let nats = b.accept(Token::NatsInfo as u8, said);
    let end = first.word(b, root, b"info ");
    b.on(end, b"{", nats);

    memcached(b, root, first, unknown);

    let words = b.accept(Token::ZookeeperConnect as u8, broken);
    let end = first.word(b, root, b"ruo");
    b.on(end, b"k", words);
    let end = first.word(b, root, b"mnt");
    b.on(end, b"r", words);

    // PROXY protocol v1 (§2.1): a line, and then the stream's own beginning.
    let header = b.state();
    b.on(header, b"\n", root);
    let end = first.word(b, root, b"proxy");
    b.on(end, b" ", header);
    line
}

const fn memcached(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    let broken = first.broken;
    let command = b.accept(Token::MemcachedCommand as u8, broken);
    // `set <key> <flags> <exptime> <bytes>`.
    let number = b.like(broken);
    b.on(number, DIGITS, number);
    b.on(number, b"\r ", command);
    let expiry = b.like(broken);
    b.on(expiry, DIGITS, expiry);
    b.on(expiry, b" ", number);
    let flags = b.like(broken);
    b.on(flags, DIGITS, flags);
    b.on(flags, b" ", expiry);
    let key = b.state();
    b.on(key, b"\r\n", unknown);
    b.on(key, b" ", flags);
    let end = first.word(b, root, b"set");
    b.on(end, b" ", key);
    let end = first.word(b, root, b"add");
    b.on(end, b" ", key);
    // `VALUE <key> <flags> <bytes>`.
    let bytes = b.like(broken);
    b.on(bytes, DIGITS, bytes);
    b.on(bytes, b"\r ", command);
    let flags = b.like(broken);
    b.on(flags, DIGITS, flags);
    b.on(flags, b" ", bytes);
    let key = b.state();
    b.on(key, b"\r\n", unknown);
    b.on(key, b" ", flags);
    let end = first.word(b, root, b"value");
    b.on(end, b" ", key);

    // A word alone says what a stream begins with, and is no more than a word elsewhere.
    let word = b.accept(Token::MemcachedOpening as u8, broken);
    let number = b.like(broken);
    b.on(number, DIGITS, word);
    let end = first.word(b, root, b"stats");
    b.on(end, b"\r", word);
    let end = first.word(b, root, b"version");
    b.on(end, b"\r", word);
    b.on(end, b" ", number);
    let end = first.word(b, root, b"stored");
    b.on(end, b"\r", word);
}

/// Redis (RESP): an array of bulk strings, or an answer that no other protocol gives.
const fn redis(b: &mut Builder, root: u16, first: &First) {
    let broken = first.broken;
    let array = b.accept(Token::RedisArray as u8, broken);
    let other = b.state();
    b.all(other, array);
    let auth = b.accept(Token::RedisAuth as u8, broken);

    // `HELLO 3 AUTH user password`: the version is a bulk string of one digit.
    let option = b.like(other);
    let end = b.path_or(option, b"auth", other);
    b.on(end, b"\r", auth);
    let size = chain(b, &[DIGITS, b"\r", b"\n"], option, array);
    let size = any(b, 1, size);
    let version = chain(b, &[b"\n", DIGITS, b"\r", b"\n"], size, array);
    let version = chain(b, &[DIGITS, b"\r"], version, array);
    let version = any(b, 1, version);
    let version = chain(b, &[b"\n"], version, array);

    let short = b.like(other);
    let end = b.path_or(short, b"auth", other);
    b.on(end, b"\r", auth);
    let command = b.like(other);
    let end = b.path_or(command, b"auth", other);
    b.on(end, b"\r", auth);
    let end = b.path_or(command, b"hello", other);
    b.on(end, b"\r", version);

    let elements = array_of(b, command, other, first);
    let count = b.like(broken);
    b.on(count, DIGITS, count);
    b.on(count, b"\r", elements);
    // A `HELLO` of two has nothing behind its version that could be waited for.
    let two = b.like(count);
    let elements = array_of(b, short, other, first);
    b.on(two, b"\r", elements);
    let star = first.word(b, root, b"*");
    b.on(star, DIGITS, count);
    b.on(star, b"2", two);
    let end = first.word(b, root, b"+pong");
    b.on(end, b"\r", array);
    let end = first.word(b, root, b"-noauth");
    b.on(end, b" ", array);
}

/// The end of an array's count, and the length of its first bulk string, which leads to `command`.
const fn array_of(b: &mut Builder, command: u16, other: u16, first: &First) -> u16 {
    let array = b.after(other, b'\r');
    let after_size = chain(b, &[b"\n"], command, array);
    let size = b.like(other);
    b.on(size, DIGITS, size);
    b.on(size, b"\r", after_size);
    let length = b.like(first.broken);
    b.on(length, DIGITS, size);
    let bulk = any(b, 1, length);
    let end = b.like(first.broken);
    b.on(end, b"\n", bulk);
    end
}

/// The options of NATS' `CONNECT`, behind their bracket: whether there is a password or a token among them.
pub(super) const fn nats_options(b: &mut Builder, broken: u16) -> u16 {
    let nats = b.accept(Token::NatsLine as u8, broken);
    let password = b.accept(Token::NatsPassword as u8, broken);
    let options = b.state();
    let string = b.state();
    b.on(string, b"\"", options);
    let opening = b.like(string);
    b.on(options, b"\"", opening);
    b.on(options, b"\r\n", nats);
    let value = b.state();
    b.all(value, password);
    b.on(value, b"\"", options);
    let colon = b.like(options);
    b.on(colon, b" ", colon);
    b.on(colon, b"\"", value);
    let named = b.like(options);
    b.on(named, b":", colon);
    let end = b.path(opening, b"pass");
    b.on(end, b"\"", named);
    let end = b.path(opening, b"auth_token");
    b.on(end, b"\"", named);
    options
}

/// Lines of a server, whatever they say, until TLS begins at the start of one.
const fn replies(b: &mut Builder, major: u16, alert: u16) -> u16 {
    let rest = b.state();
    let line = b.like(rest);
    b.on(rest, b"\n", line);
    b.on(line, b"\n", line);
    b.on(line, &[0x16], major);
    b.on(line, &[0x15], alert);
    rest
}

/// The states of a client's commands that others lead to.
struct Commands {
    /// Within a line.
    rest: u16,
    /// At the start of one.
    line: u16,
    /// Behind `USER`.
    user: u16,
}

/// Lines of a client whose protocol may turn to TLS at the start of any.
const fn commands(b: &mut Builder, major: u16, alert: u16) -> Commands {
    let rest = b.state();
    let line = b.state();
    let tag = b.state();
    let command = b.state();
    b.on(rest, b"\n", line);
    b.all(command, rest);
    b.on(command, b"\n", line);
    b.on(tag, b"\n", line);
    b.on(tag, b" ", command);
    b.all(line, tag);
    b.on(line, b"\r\n", line);
    let plain = b.accept(Token::PlainCommand as u8, rest);
    let password = b.accept(Token::PasswordCommand as u8, rest);
    // Mechanisms that send what they log in with as it is; the first byte of another one says so.
    let other = b.state();
    b.all(other, plain);
    let mechanism = b.like(other);
    let mut index = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
    while index < READABLE.len() {
        let end = b.path_or(mechanism, READABLE[index], other);
        b.on(end, b" \r", password);
        index += 1;
    }
    // IMAP's commands stand behind a tag.
    // SMTP's `AUTH LOGIN` reads as one with the tag `AUTH`.
    let end = b.path(command, b"login");
    b.on(end, b" \r", password);
    let end = b.path(command, b"authenticate");
    b.on(end, b" ", mechanism);
    let end = b.path(command, b"select");
    b.on(end, b" ", plain);
    let end = b.path(line, b"mail from");
    b.on(end, b":", plain);
    // SMTP and POP3. A client that is told how to go on in another way has not logged in yet.
    index = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
    while index < READABLE.len() {
        let end = b.path(line, b"auth ");
        let end = b.path(end, READABLE[index]);
        b.on(end, b" \r", password);
        index += 1;
    }
    // FTP and POP3: anybody may be `anonymous`, whose password is none.
    let user = b.like(rest);
    let end = b.path(user, b"anonymous");
    b.on(end, b"\r", plain);
    let end = b.path(user, b"ftp");
    b.on(end, b"\r", plain);
    let end = b.path(line, b"user");
    b.on(end, b" ", user);
    let end = b.path(line, b"pass");
    b.on(end, b" ", password);
    b.on(line, &[0x16], major);
    b.on(line, &[0x15], alert);
    Commands { rest, line, user }
}

/// SASL mechanisms that send a password or a token as it is (RFC 4616, RFC 7628).
const READABLE: [&[u8]; 4] = [b"plain", b"login", b"xoauth2", b"oauthbearer"];
