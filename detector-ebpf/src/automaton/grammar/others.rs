//! Owns the beginnings of what is neither TLS nor HTTP nor JSON: databases, brokers, mail, directories.
//!
//! A binary protocol is believed only by bytes that leave little to chance; a text protocol by a word in its
//! place. Where a protocol may turn to TLS, its beginning is a greeting and no verdict.

use super::{super::builder::Builder, DIGITS, Token};

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const NUL: &[u8] = &[0x00];
/// Control bytes that share a class: 5 to 8, 11, 12, 14 to 16, 18.
pub(super) const LOW: &[u8] = &[0x05, 0x06, 0x07, 0x08, 0x0b, 0x0c, 0x0e, 0x0f, 0x10, 0x12];
/// High bytes that share a class.
pub(super) const HIGH: &[u8] = &[0xd2, 0xd4, 0xdd];
/// Versions of Kafka's requests that are current; 9, 10 and 13 have classes of their own.
const SMALL: &[u8] = &[0x01, 0x03, 0x04, 0x05];

/// What bytes that begin no word go through before they are given up.
pub(super) struct First {
    one: u16,
    two: u16,
    broken: u16,
}

/// `Any any 00 00` is a length that MongoDB's messages begin with; `any 00 00 00 0a digit` is MySQL's greeting.
pub(super) const fn first(b: &mut Builder, broken: u16, unknown: u16, ssl2: u16) -> First {
    let mongo = b.accept(Token::MongoMessage as u8, broken);
    let code = chain(b, &[HIGH, LOW, NUL, NUL], mongo, unknown);
    let reply_to = chain(b, &[NUL, NUL, NUL, NUL], code, unknown);
    let request = any(b, 3, reply_to);
    let four = any(b, 1, request);

    let mysql = b.accept(Token::MysqlGreeting as u8, broken);
    let version = b.like(request);
    b.on(version, DIGITS, mysql);
    let four_short = b.like(four);
    b.on(four_short, b"\n", version);

    let three = b.like(broken);
    b.on(three, NUL, four);
    let three_short = b.like(broken);
    b.on(three_short, NUL, four_short);
    let two = b.like(broken);
    b.on(two, NUL, three);
    // SSL 2.0 (RFC 5246 appendix E.2): a hello behind a length of two bytes.
    let after_ciphers = chain(b, &[NUL, NUL, NUL, LOW], ssl2, unknown);
    let cipher_length = any(b, 1, after_ciphers);
    let hello = chain(b, &[&[0x03], &[0x00, 0x01, 0x02, 0x03], NUL], cipher_length, unknown);
    b.on(two, &[0x01], hello);
    let two_short = b.like(broken);
    b.on(two_short, NUL, three_short);
    let one = b.state();
    b.all(one, two);
    b.on(one, NUL, two_short);
    First { one, two, broken }
}

impl First {
    /// The state that any byte leads to that begins nothing.
    pub(super) const fn byte(&self) -> u16 {
        self.one
    }

    /// Lays a word over the root, so that one that breaks off goes on as any bytes do.
    pub(super) const fn word(&self, b: &mut Builder, root: u16, word: &[u8]) -> u16 {
        let (head, tail) = word.split_at(1);
        let at = b.path_or(root, head, self.one);
        if tail.is_empty() {
            return at;
        }
        let (head, tail) = tail.split_at(1);
        let at = b.path_or(at, head, self.two);
        b.path_or(at, tail, self.broken)
    }
}

/// States that `count` bytes of any value lead through to `end`.
const fn any(b: &mut Builder, count: usize, end: u16) -> u16 {
    let mut at = end;
    let mut index = 0;
    while index < count {
        let before = b.state();
        b.all(before, at);
        at = before;
        index += 1;
    }
    at
}

/// States that one byte of each set leads through to `end`; all else leads to `otherwise`.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
const fn chain(b: &mut Builder, sets: &[&[u8]], end: u16, otherwise: u16) -> u16 {
    let mut at = end;
    let mut index = sets.len();
    while index > 0 {
        index -= 1;
        let before = b.state();
        b.all(before, otherwise);
        b.on(before, sets[index], at);
        at = before;
    }
    at
}

/// Databases and brokers.
pub(super) const fn binary(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    zeros(b, root, first, unknown);
    let broken = first.broken;

    // MySQL (protocol::SSLRequest): 32 bytes, the first packet of a client that asks for TLS.
    let request = b.accept(Token::MysqlSslRequest as u8, broken);
    let at = first.word(b, root, b" ");
    let after = chain(b, &[NUL, &[0x01]], request, unknown);
    b.on(at, NUL, after);

    // Cassandra (native protocol v3 to v5 §2): OPTIONS with nothing in it, or STARTUP with its map.
    let frame = b.accept(Token::CassandraFrame as u8, broken);
    let options = chain(b, &[NUL, NUL, NUL, NUL], frame, unknown);
    let name = chain(b, &[LETTERS], frame, unknown);
    let name = any(b, 1, name);
    let name = chain(b, &[NUL], name, unknown);
    let count = any(b, 1, name);
    let count = chain(b, &[NUL], count, unknown);
    let startup = any(b, 1, count);
    let startup = chain(b, &[NUL, NUL, NUL], startup, unknown);
    let opcode = b.like(broken);
    b.on(opcode, LOW, options);
    b.on(opcode, &[0x01], startup);
    let stream = any(b, 2, opcode);
    let version = b.like(first.one);
    b.on(version, NUL, stream);
    b.on(root, &[0x03, 0x04], version);

    // MQTT (5.0 §3.1): CONNECT, a length of one or two bytes, and the protocol's name.
    let connect = b.accept(Token::MqttConnect as u8, broken);
    let name = b.like(broken);
    let end = b.path_or(name, b"mqt", broken);
    b.on(end, b"t", connect);
    let end = b.path_or(name, b"mqisd", broken);
    b.on(end, b"p", connect);
    let length = b.like(broken);
    b.on(length, &[0x04], name);
    b.on(length, LOW, name);
    let more = b.like(broken);
    b.on(more, NUL, length);
    let remaining = b.state();
    b.all(remaining, more);
    b.on(remaining, NUL, length);
    let low = b.state();
    b.all(low, remaining);
    b.on(low, NUL, stream);
    b.on(root, &[0x05], low);

    // LDAP (RFC 4511 §4.1.1): the first message of a connection; StartTLS is an extended request (§4.14).
    let message = b.accept(Token::LdapMessage as u8, broken);
    let extended = b.accept(Token::LdapExtended as u8, broken);
    let operation = b.state();
    b.all(operation, message);
    // The server's answer to one begins like this too.
    b.on(operation, b"wx", extended);
    let integer = chain(b, &[&[0x01], &[0x01]], operation, unknown);
    let length = b.like(first.two);
    b.on(length, &[0x02], integer);
    let at = first.word(b, root, b"0");
    b.all(at, length);

    // AMQP (0-9-1 §4.2.2, 1.0 §2.2): the header of the protocol, or of the TLS layer below it.
    let header = b.accept(Token::AmqpHeader as u8, broken);
    let layer = b.accept(Token::AmqpTls as u8, broken);
    let end = first.word(b, root, b"amqp");
    b.on(end, &[0x00, 0x01, 0x03], header);
    b.on(end, &[0x02], layer);
}

/// What begins with two zeros, as big-endian lengths do: PostgreSQL, Kafka, ZooKeeper; and PROXY v2.
const fn zeros(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    let broken = first.broken;
    // Kafka: API key, version, a small correlation id, a client id of some length.
    let request = b.accept(Token::KafkaRequest as u8, broken);
    let client = chain(b, &[LETTERS], request, unknown);
    let client = any(b, 1, client);
    let client = chain(b, &[NUL], client, unknown);
    let correlation = any(b, 2, client);
    let correlation_low = chain(b, &[NUL], correlation, unknown);
    let correlation_high = chain(b, &[NUL], correlation_low, unknown);
    let version = b.like(broken);
    b.on(version, SMALL, correlation_high);
    b.on(version, &[0x00, 0x02], correlation_high);
    let version = chain(b, &[NUL], version, unknown);

    // PostgreSQL (§55.7 StartupMessage): protocol 3.0 or 3.2, then the name of a parameter.
    let startup = b.accept(Token::PostgresStartup as u8, broken);
    let parameter = b.like(broken);
    b.on(parameter, LETTERS, startup);
    b.on(parameter, NUL, correlation_low);
    let minor = b.like(broken);
    b.on(minor, SMALL, correlation_high);
    b.on(minor, &[0x00, 0x02], parameter);
    let major = b.like(broken);
    b.on(major, NUL, minor);

    let key = b.like(broken);
    b.on(key, &[0x03], major);
    b.on(key, LOW, version);
    let four = b.like(broken);
    b.on(four, NUL, key);

    // ZooKeeper: a connect request of 44 or 45 bytes, protocol version 0, nothing seen yet.
    let connect = b.accept(Token::ZookeeperConnect as u8, broken);
    let zero_version = chain(b, &[NUL, NUL, NUL, NUL], connect, unknown);
    let zookeeper_key = b.like(key);
    b.on(zookeeper_key, NUL, zero_version);
    let zookeeper = b.like(four);
    b.on(zookeeper, NUL, zookeeper_key);

    // PostgreSQL (§55.7 SSLRequest, GSSENCRequest): the TLS hello follows if the server says yes.
    let ssl = b.accept(Token::PostgresSslRequest as u8, broken);
    let code = chain(b, &[HIGH, &[0x16], b"/0"], ssl, unknown);
    let postgres = b.like(four);
    b.on(postgres, &[0x04], code);

    let three = b.state();
    b.all(three, four);
    let three_short = b.like(three);
    b.on(three_short, b",-", zookeeper);
    b.on(three_short, LOW, postgres);
    let two = b.state();
    b.all(two, three);
    b.on(two, NUL, three_short);
    let one = b.like(broken);
    b.on(one, NUL, two);

    // PROXY protocol v2 (§2.2); the root has passed over the four line ends that it begins with.
    let end = b.accept(Token::ProxyLengthEnd as u8, broken);
    let length_low = b.state();
    b.all(length_low, end);
    let length_high = b.accept(Token::ProxyLength as u8, length_low);
    let length = b.state();
    b.all(length, length_high);
    let family = any(b, 2, length);
    let signature = chain(b, &[b"\n", b"q", b"u", b"i", b"t", b"\n"], family, unknown);
    b.on(one, b"\r", signature);
    b.on(root, NUL, one);
}

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
    let (rest, line) = commands(b, major, alert);

    // Redis (RESP): an array of bulk strings, or an answer that no other protocol gives.
    let array = b.accept(Token::RedisArray as u8, broken);
    let after_count = chain(b, &[b"\n"], array, unknown);
    let count = b.like(broken);
    b.on(count, DIGITS, count);
    b.on(count, b"\r", after_count);
    let star = first.word(b, root, b"*");
    b.on(star, DIGITS, count);
    let end = first.word(b, root, b"+pong");
    b.on(end, b"\r", array);
    let end = first.word(b, root, b"-noauth");
    b.on(end, b" ", array);

    // IMAP (RFC 9051 §7.1), POP3 (RFC 1939 §4), SMTP (RFC 5321 §4.2) and FTP (RFC 959 §4.2).
    let imap = b.accept(Token::ImapGreeting as u8, rest);
    let end = first.word(b, root, b"* ok");
    b.on(end, b" \r", imap);
    let end = first.word(b, root, b"* preauth");
    b.on(end, b" \r", imap);
    let pop3 = b.accept(Token::Pop3Greeting as u8, rest);
    let end = first.word(b, root, b"+ok");
    b.on(end, b" ", pop3);
    let mail = b.accept(Token::Greeting220 as u8, rest);
    let end = first.word(b, root, b"220");
    b.on(end, b" -", mail);
    let hello = b.accept(Token::SmtpHello as u8, rest);
    let end = first.word(b, root, b"ehlo");
    b.on(end, b" ", hello);
    let end = first.word(b, root, b"helo");
    b.on(end, b" ", hello);
    let user = b.accept(Token::FtpUser as u8, rest);
    let end = first.word(b, root, b"user");
    b.on(end, b" ", user);
    let tls = b.accept(Token::Greeting220 as u8, rest);
    let end = first.word(b, root, b"auth ");
    b.on(end, b"ts", tls);

    // XMPP (RFC 6120 §4): a stream that may turn to TLS between two elements.
    let xml = b.state();
    let element = b.like(xml);
    b.on(xml, b"<", element);
    b.all(element, xml);
    b.on(xml, &[0x16], major);
    let plain = b.accept(Token::PlainCommand as u8, xml);
    let end = b.path(element, b"auth");
    b.on(end, b" ", plain);
    let end = b.path(element, b"iq");
    b.on(end, b" ", plain);
    let end = b.path(element, b"presenc");
    b.on(end, b"e", plain);
    let stream = b.accept(Token::XmppStream as u8, xml);
    let end = first.word(b, root, b"<stream");
    b.on(end, b":", stream);
    let end = first.word(b, root, b"<?xml");
    b.on(end, b" ", stream);

    // NATS: what a server says first.
    let nats = b.accept(Token::NatsLine as u8, broken);
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
    let end = first.word(b, root, b"stats");
    b.on(end, b"\r", command);
    let end = first.word(b, root, b"version");
    b.on(end, b"\r ", command);
    let end = first.word(b, root, b"stored");
    b.on(end, b"\r", command);
}

/// Lines of a protocol that may turn to TLS at the start of any; answers the state within a line, and at the
/// start of one.
const fn commands(b: &mut Builder, major: u16, alert: u16) -> (u16, u16) {
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
    // IMAP's commands stand behind a tag.
    // SMTP's `AUTH LOGIN` reads as one with the tag `AUTH`.
    let end = b.path(command, b"login");
    b.on(end, b" \r", plain);
    let end = b.path(command, b"authenticate");
    b.on(end, b" ", plain);
    let end = b.path(command, b"select");
    b.on(end, b" ", plain);
    let end = b.path(line, b"mail from");
    b.on(end, b":", plain);
    let end = b.path(line, b"auth plai");
    b.on(end, b"n", plain);
    let end = b.path(line, b"user");
    b.on(end, b" ", plain);
    let end = b.path(line, b"pass");
    b.on(end, b" ", plain);
    b.on(line, &[0x16], major);
    b.on(line, &[0x15], alert);
    (rest, line)
}
