//! Owns the beginnings of binary protocols that are not TLS: databases, brokers, directories.
//!
//! One is believed only by bytes that leave little to chance. A login that can be read is waited for, in the first
//! words or behind them: the protocol is told at once, and what is told of the login is told when it comes.

use super::{super::builder::Builder, DIGITS, Token};

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const NUL: &[u8] = &[0x00];
/// Keys of Kafka's requests that share a class, beside those that have one of their own.
pub(super) const KEYS: &[u8] = &[0x0b, 0x0c, 0x0e];
/// MQTT's flags of a connection that has a password (3.1.1 §3.1.2.3), but for two that have classes of their own.
pub(super) const PASSWORD_FLAGS: &[u8] =
    &[0xc0, 0xc2, 0xc4, 0xc6, 0xcc, 0xd6, 0xe4, 0xe6, 0xec, 0xee, 0xf4, 0xf6];
/// What a name that somebody logs in with begins with.
const NAMES: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789_";
/// Versions of Kafka's requests that are current; 9, 10 and 13 have classes of their own.
const SMALL: &[u8] = &[0x01, 0x03, 0x04, 0x05];

/// What bytes that begin no word go through before they are given up.
pub(super) struct First {
    one: u16,
    two: u16,
    /// The third byte, behind a zero.
    pub(super) two_short: u16,
    /// The seventh byte: the number that MongoDB gives to a message goes on.
    six: u16,
    /// What MySQL's server says behind its greeting.
    pub(super) packet: u16,
    /// All that comes after.
    pub(super) broken: u16,
}

/// `Any any 00 00` is a length that MongoDB's messages begin with; `any 00 00 00 0a digit` is MySQL's greeting.
pub(super) const fn first(b: &mut Builder, broken: u16, unknown: u16, ssl2: u16) -> First {
    let mongo = b.accept(Token::MongoMessage as u8, broken);
    let code = chain(b, &[&[0xdd, 0xd4], &[0x07], NUL, NUL], mongo, unknown);
    let reply_to = chain(b, &[NUL, NUL, NUL, NUL], code, unknown);
    let six = any(b, 2, reply_to);
    let request = any(b, 1, six);
    let four = any(b, 1, request);

    // Protocol::HandshakeV10: the server's version, 31 bytes of numbers, and two strings that end with a zero.
    let packet = b.state();
    let scramble = b.state();
    b.on(scramble, NUL, packet);
    let numbers = any(b, 31, scramble);
    let name = b.state();
    b.on(name, NUL, numbers);
    let mysql = b.accept(Token::MysqlGreeting as u8, name);
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
    let after_ciphers = chain(b, &[NUL, NUL, NUL, b"\x10 "], ssl2, unknown);
    let cipher_length = any(b, 1, after_ciphers);
    let hello = chain(b, &[&[0x03], &[0x00, 0x01, 0x02, 0x03], NUL], cipher_length, unknown);
    b.on(two, &[0x01], hello);
    // AuthSwitchRequest: the server asks for the password as it is.
    let password = b.accept(Token::MysqlPassword as u8, broken);
    let switch = b.like(broken);
    let end = b.path_or(switch, b"\xfemysql_clear_passwor", broken);
    b.on(end, b"d", password);
    b.on(three_short, &[0x02], switch);
    let two_short = b.like(broken);
    b.on(two_short, NUL, three_short);
    let one = b.state();
    b.all(one, two);
    b.on(one, NUL, two_short);
    let plugin = b.state();
    b.on(plugin, NUL, packet);
    b.all(packet, one);
    b.on(packet, LETTERS, plugin);
    First { one, two, two_short, six, packet, broken }
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
pub(super) const fn any(b: &mut Builder, count: usize, end: u16) -> u16 {
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
pub(super) const fn chain(b: &mut Builder, sets: &[&[u8]], end: u16, otherwise: u16) -> u16 {
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

    cassandra(b, root, first, unknown);
    mqtt(b, root, broken);
    ldap(b, root, first, unknown);

    // AMQP (0-9-1 §4.2.2, 1.0 §2.2): the header of the protocol, or of the TLS layer below it.
    let header = b.accept(Token::AmqpHeader as u8, broken);
    let layer = b.accept(Token::AmqpTls as u8, broken);
    let end = first.word(b, root, b"amqp");
    b.on(end, &[0x01, 0x03], header);
    b.on(end, &[0x02], layer);
    // 0-9-1 §1.4.2.2: the client's first method names how it logs in, `PLAIN` or `AMQPLAIN`, before the
    // length of what it logs in with. The end of the frame is the end of the waiting.
    let waits = b.state();
    let named = b.accept(Token::PlainCommand as u8, waits);
    b.on(waits, &[0xce], named);
    let password = b.accept(Token::PasswordCommand as u8, waits);
    let mechanism = b.path(waits, b"plain");
    b.on(mechanism, NUL, password);
    let start = b.accept(Token::AmqpStart as u8, waits);
    b.on(end, NUL, start);
}

/// Cassandra (native protocol v3 to v5 §2): a client begins with OPTIONS, which is empty, or with STARTUP and its map,
/// both without flags. `AUTH_RESPONSE` (§4.1.2) holds what SASL's PLAIN sends: NUL, name, NUL, password.
const fn cassandra(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    let begun = b.accept(Token::CassandraOptions as u8, first.broken);
    let options = chain(b, &[NUL, NUL, NUL, NUL], begun, unknown);

    let begun = b.accept(Token::CassandraStartup as u8, first.broken);
    let name = chain(b, &[LETTERS], begun, unknown);
    let name = any(b, 1, name);
    let name = chain(b, &[NUL], name, unknown);
    let count = any(b, 1, name);
    let length = b.state();
    let count_high = b.accept(Token::LengthByte as u8, length);
    b.all(count_high, unknown);
    b.on(count_high, NUL, count);
    b.all(length, count_high);
    let startup = chain(b, &[NUL, NUL, NUL], length, unknown);

    let password = b.accept(Token::CassandraPassword as u8, first.broken);
    let name = chain(b, &[NUL, NAMES], password, unknown);
    let token = any(b, 1, name);
    let token = chain(b, &[NUL, NUL, NUL], token, unknown);
    let response = any(b, 1, token);
    let response = chain(b, &[NUL, NUL, NUL], response, unknown);

    let opcode = b.like(first.broken);
    b.on(opcode, &[0x05], options);
    b.on(opcode, &[0x01], startup);
    b.on(opcode, &[0x0f], response);
    let stream = any(b, 2, opcode);
    let version = b.like(first.one);
    b.on(version, NUL, stream);
    b.on(root, &[0x03, 0x04, 0x05], version);
}

/// MQTT (5.0 §3.1): CONNECT, a length of one or two bytes, and the protocol's name.
const fn mqtt(b: &mut Builder, root: u16, broken: u16) {
    let connect = b.accept(Token::MqttConnect as u8, broken);
    let password = b.accept(Token::MqttPassword as u8, broken);
    let flags = b.state();
    b.all(flags, connect);
    b.on(flags, PASSWORD_FLAGS, password);
    b.on(flags, &[0xce, 0xd4], password);
    let connect = any(b, 1, flags);
    let length = b.like(broken);
    let end = b.path_or(length, b"\x04mqt", broken);
    b.on(end, b"t", connect);
    let end = b.path_or(length, b"\x06mqisd", broken);
    b.on(end, b"p", connect);
    let more = b.like(broken);
    b.on(more, NUL, length);
    let remaining = b.state();
    b.all(remaining, more);
    b.on(remaining, NUL, length);
    let low = b.state();
    b.all(low, remaining);
    b.on(root, &[0x10], low);
}

/// LDAP (RFC 4511 §4.1.1): the first message of a connection; StartTLS is an extended request (§4.14).
const fn ldap(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    let message = b.accept(Token::LdapMessage as u8, first.broken);
    let extended = b.accept(Token::LdapExtended as u8, first.broken);
    let simple = b.accept(Token::LdapSimpleBind as u8, first.broken);

    // A bind (§4.2): version, name, and the tag of a simple bind before a password that is not empty.
    let password = b.state();
    b.all(password, simple);
    b.on(password, NUL, message);
    let nobody = b.state();
    b.all(nobody, message);
    b.on(nobody, &[0x80], password);
    let name = b.state();
    b.on(name, &[0x80], password);
    let name_length = b.state();
    b.all(name_length, name);
    b.on(name_length, NUL, nobody);
    let version = chain(b, &[&[0x04]], name_length, message);
    let version = any(b, 1, version);
    let version = chain(b, &[&[0x01]], version, message);
    // A length is one byte, or a count of up to four that follow.
    let bind_length = lengths(b, 5, version, message);
    let bind = any(b, 1, bind_length);

    let operation = b.state();
    b.all(operation, message);
    // The server's answer to one begins like this too.
    b.on(operation, b"wx", extended);
    b.on(operation, b"`", bind);
    let integer = chain(b, &[&[0x01], &[0x01]], operation, unknown);

    // MongoDB's messages may begin with the same byte, and then two zeros.
    let six = b.like(first.six);
    b.on(six, &[0x02], integer);
    let four = any(b, 2, six);
    let three = chain(b, &[NUL], four, unknown);
    let long = lengths(b, 3, integer, unknown);
    let length = b.state();
    b.all(length, long);
    b.on(length, NUL, three);
    b.on(length, &[0x02], integer);
    // A length of one byte is kept, for the message's end; 0x81 and above are a count.
    let short = b.accept(Token::LengthByte as u8, length);
    let at = first.word(b, root, b"0");
    b.all(at, short);
    b.on(at, &[0x81, 0x82, 0x83, 0x84], length);
}

/// States that up to `count` bytes of a length lead through, each of which may be the tag of an integer instead.
const fn lengths(b: &mut Builder, count: usize, integer: u16, otherwise: u16) -> u16 {
    let mut at = otherwise;
    let mut index = 0;
    while index < count {
        let before = b.state();
        b.all(before, at);
        b.on(before, &[0x02], integer);
        at = before;
        index += 1;
    }
    at
}

/// The states of a Kafka request's header that others lead to.
struct Kafka {
    /// Behind the API key.
    version: u16,
    /// Behind the version.
    numbers: u16,
    /// Behind the first byte of the correlation id.
    correlation: u16,
}

/// A Kafka request: API key, version, a small correlation id, a client id of some length.
const fn kafka(b: &mut Builder, broken: u16, unknown: u16) -> Kafka {
    let request = b.accept(Token::KafkaRequest as u8, broken);
    let (numbers, correlation) = kafka_numbers(b, request, unknown);
    let version = b.like(broken);
    b.on(version, SMALL, numbers);
    b.on(version, &[0x00, 0x02], numbers);
    let version = chain(b, &[NUL], version, unknown);
    Kafka { version, numbers, correlation }
}

/// A Kafka request behind its key: the header's last byte that is read leads to `end`.
const fn kafka_header(b: &mut Builder, end: u16, broken: u16, unknown: u16) -> u16 {
    let (numbers, _correlation) = kafka_numbers(b, end, unknown);
    let version = b.like(broken);
    b.on(version, SMALL, numbers);
    b.on(version, &[0x00, 0x02], numbers);
    chain(b, &[NUL], version, unknown)
}

const fn kafka_numbers(b: &mut Builder, end: u16, unknown: u16) -> (u16, u16) {
    let client = chain(b, &[LETTERS], end, unknown);
    let client = any(b, 1, client);
    let client = chain(b, &[NUL], client, unknown);
    let correlation = any(b, 2, client);
    let correlation_low = chain(b, &[NUL], correlation, unknown);
    (chain(b, &[NUL], correlation_low, unknown), correlation_low)
}

/// Kafka's SaslHandshake that asks for PLAIN, and what comes next: SaslAuthenticate (key 36), or by version 0 of the
/// handshake what PLAIN sends as it is.
const fn kafka_handshake(b: &mut Builder, broken: u16, unknown: u16) -> u16 {
    let other = b.accept(Token::KafkaRequest as u8, broken);
    let password = b.accept(Token::KafkaPassword as u8, broken);
    let login = b.state();
    b.all(login, other);
    b.on(login, NAMES, password);
    b.on(login, b"$", password);
    // What PLAIN sends may begin with the name that the client wants to act for.
    let first = b.state();
    b.all(first, other);
    b.on(first, NAMES, password);
    b.on(first, NUL, login);
    let length = any(b, 2, first);
    let length = chain(b, &[NUL], length, other);
    let plain = b.accept(Token::KafkaPlain as u8, other);
    b.on(plain, NUL, length);
    let mechanism = b.state();
    b.all(mechanism, other);
    let end = b.path_or(mechanism, b"\x05plai", other);
    b.on(end, b"n", plain);
    let client = b.state();
    b.on(client, NUL, mechanism);
    kafka_header(b, client, broken, unknown)
}

/// What begins with two zeros, as big-endian lengths do: PostgreSQL, Kafka, ZooKeeper; and PROXY v2.
const fn zeros(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    let broken = first.broken;
    let Kafka { version, numbers, correlation } = kafka(b, broken, unknown);

    // PostgreSQL (§55.7 StartupMessage): protocol 3.0 or 3.2, then the name of a parameter.
    let startup = b.accept(Token::PostgresStartup as u8, broken);
    let parameter = b.like(broken);
    b.on(parameter, LETTERS, startup);
    b.on(parameter, NUL, correlation);
    let minor = b.like(broken);
    b.on(minor, SMALL, numbers);
    b.on(minor, &[0x00, 0x02], parameter);
    let major = b.like(broken);
    b.on(major, NUL, minor);

    let key = b.like(broken);
    b.on(key, &[0x03], major);
    b.on(key, KEYS, version);
    b.on(key, b"\x05\x06\x07\x08\t\n\r\x0f\x10", version);
    // ApiVersions, and SaslHandshake.
    let versions = b.accept(Token::KafkaVersions as u8, broken);
    let versions = kafka_header(b, versions, broken, unknown);
    b.on(key, &[0x12], versions);
    let handshake = kafka_handshake(b, broken, unknown);
    b.on(key, &[0x11], handshake);
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
    let code = chain(b, &[&[0xd2], &[0x16], b"/0"], ssl, unknown);
    let postgres = b.like(four);
    b.on(postgres, &[0x04], code);

    authentication(b, root, first, unknown);

    // The request's length is kept, for another one may follow it.
    let [four, zookeeper, postgres] = [
        b.accept(Token::LengthByte as u8, four),
        b.accept(Token::LengthByte as u8, zookeeper),
        b.accept(Token::LengthByte as u8, postgres),
    ];
    let three = b.state();
    let three = b.accept(Token::LengthByte as u8, three);
    b.all(three, four);
    let three_short = b.accept(Token::LengthByte as u8, three);
    b.on(three_short, b",-", zookeeper);
    b.on(three_short, &[0x08], postgres);
    let two = b.state();
    b.all(two, three);
    b.on(two, NUL, three_short);
    let one = b.like(broken);
    b.on(one, NUL, two);

    // PROXY protocol v2 (§2.2); the root has passed over the four line ends that it begins with.
    let end = b.accept(Token::ProxyLengthEnd as u8, broken);
    let length_low = b.state();
    b.all(length_low, end);
    let length_high = b.accept(Token::LengthByte as u8, length_low);
    let length = b.state();
    b.all(length, length_high);
    let family = any(b, 2, length);
    let signature = chain(b, &[b"\n", b"q", b"u", b"i", b"t", b"\n"], family, unknown);
    b.on(one, b"\r", signature);
    b.on(root, NUL, one);
}

/// PostgreSQL (§55.7 Authentication…): what a server says first, or behind its no to TLS: the client is in (0), or
/// is to send its password as it is (3).
const fn authentication(b: &mut Builder, root: u16, first: &First, unknown: u16) {
    let asks = b.accept(Token::PostgresPassword as u8, first.broken);
    let other = b.accept(Token::PostgresStartup as u8, first.broken);
    let code = chain(b, &[NUL], other, unknown);
    b.on(code, &[0x03], asks);
    // All that asks for more than eight bytes of the client says how, and does not ask for a password.
    let length = chain(b, &[NUL, NUL, NUL, &[0x08], NUL, NUL, NUL], code, unknown);
    let words: [&[u8]; 2] = [b"r", b"nr"];
    let mut index = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
    while index < words.len() {
        let end = first.word(b, root, words[index]);
        b.on(end, NUL, b.after(length, 0x00));
        index += 1;
    }
}
