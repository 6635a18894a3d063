//! Beginnings of everything else that runs in clusters, and what they must not be taken for.

use std::vec;

use super::*;

fn phase(stream: &[u8]) -> Phase {
    let phase = read(stream, &[]).phase;
    for end in 0..stream.len() {
        assert_eq!(read(stream, &[end]).phase, phase, "{stream:?} split at {end}");
    }
    [
        Phase::Start,
        Phase::Head,
        Phase::Body,
        Phase::ChunkSize,
        Phase::Chunk,
        Phase::Trailer,
        Phase::Lines,
        Phase::FrameHeader,
        Phase::Frame,
        Phase::Lost,
        Phase::Hello,
        Phase::Commands,
        Phase::Tls,
        Phase::Opaque,
        Phase::Named,
    ][usize::from(phase)]
}

const HELLO: [u8; 11] = [0x16, 3, 1, 6, 1, 1, 0, 5, 0xfd, 3, 3];

#[test]
fn a_beginning_that_says_all_is_plaintext() {
    let streams: [(&[u8], Protocol); 25] = [
        (b"*1\r\n$4\r\nPING\r\n", Protocol::Redis),
        (b"+PONG\r\n", Protocol::Redis),
        (b"-NOAUTH Authentication required.\r\n", Protocol::Redis),
        (b"\0\0\0\x29\0\x03\0\0user\0x\0database\0y\0\0", Protocol::Postgresql),
        (b"\0\0\x01\x29\0\x03\0\x02database\0y\0user\0x\0\0", Protocol::Postgresql),
        (b"\x3f\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0", Protocol::Mongodb),
        (b"\x3f\x01\0\0\x01\x02\x03\0\0\0\0\0\xd4\x07\0\0\0\0\0\0", Protocol::Mongodb),
        (b"AMQP\0\0\x09\x01\x01\0\0\0\0\x01\x08\0\x0a\0\x0b\xce", Protocol::Amqp),
        (b"AMQP\x03\x01\0\0", Protocol::Amqp),
        (b"CONNECT {\"verbose\":false}\r\n", Protocol::Nats),
        (b"\0\0\0\x1a\0\x03\0\x01\0\0\0\x01\0\x08producer", Protocol::Kafka),
        (b"\0\0\0\x1a\0\x03\0\0\0\0\0\x01\0\x08producer", Protocol::Kafka),
        (b"\x10\x10\0\x04MQTT\x04\x02", Protocol::Mqtt),
        (b"\x10\xa0\x01\0\x04MQTT\x05\x02", Protocol::Mqtt),
        (b"\x10\x10\0\x06MQIsdp\x03\x02", Protocol::Mqtt),
        (b"set key 0 0 5\r\nvalue\r\n", Protocol::Memcached),
        (b"get key1\r\n", Protocol::Memcached),
        (b"version\r\n", Protocol::Memcached),
        (b"VERSION 1.6.18\r\n", Protocol::Memcached),
        (b"VALUE key 0 5\r\nvalue\r\nEND\r\n", Protocol::Memcached),
        (b"VALUE key 0 5 17\r\nvalue\r\nEND\r\n", Protocol::Memcached),
        (b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0", Protocol::Zookeeper),
        (b"ruok", Protocol::Zookeeper),
        (b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0", Protocol::Ldap),
        (b"USER anonymous\r\n", Protocol::Ftp),
    ];
    for (stream, protocol) in streams {
        let (shown, work) = read_to_end(stream, &[]);
        assert_eq!(phase(stream), Phase::Named, "{protocol:?}");
        assert_eq!(shown.protocol, protocol as u8, "{protocol:?}");
        assert_eq!(work.side.greeting, protocol as u8, "{protocol:?}");
    }
}

const STARTUP: &[u8] = b"\x04\0\0\x01\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.0.0";
const OPTIONS: &[u8] = b"\x05\0\0\x01\x05\0\0\0\0";
const VERSIONS: &[u8] = b"\0\0\0\x12\0\x12\0\x03\0\0\0\x01\0\x08producer";
const HANDSHAKE: &[u8] = b"\0\0\0\x19\0\x11\0\x01\0\0\0\x02\0\x08producer\0\x05PLAIN";
const SCRAM: &[u8] = b"\0\0\0\x21\0\x11\0\x01\0\0\0\x02\0\x08producer\0\x0dSCRAM-SHA-256";
const AUTHENTICATE: &[u8] = b"\0\0\0\x23\0\x24\0\x01\0\0\0\x03\0\x08producer\0\0\0\x0d\0app\0made-up";

/// Messages one after the other, and what they show.
type Introduction<'a> = (&'a [&'a [u8]], Protocol, Phase, &'a [&'a str]);

#[test]
fn a_beginning_that_a_login_may_follow_is_plaintext_at_once_and_read_on() {
    let password: &[&str] = &["password"];
    let response = b"\x04\0\0\x02\x0f\0\0\0\x10\0\0\0\x0c\0app\0made-up";
    let cases: [Introduction<'_>; 15] = [
        (&[OPTIONS], Protocol::Cassandra, Phase::Start, &[]),
        (&[STARTUP], Protocol::Cassandra, Phase::Start, &[]),
        (&[OPTIONS, STARTUP, response], Protocol::Cassandra, Phase::Named, password),
        (&[STARTUP, response], Protocol::Cassandra, Phase::Named, password),
        // REGISTER and QUERY, and Kerberos.
        (&[STARTUP, b"\x04\0\0\x02\x0b\0\0\0\x02\0\0"], Protocol::Cassandra, Phase::Named, &[]),
        (&[STARTUP, b"\x04\0\0\x02\x07\0\0\0\x02\0\0"], Protocol::Cassandra, Phase::Named, &[]),
        (
            &[STARTUP, b"\x04\0\0\x02\x0f\0\0\0\x10\0\0\0\x0c\x60\x82\x01app"],
            Protocol::Cassandra,
            Phase::Named,
            &[],
        ),
        (&[VERSIONS], Protocol::Kafka, Phase::Start, &[]),
        (&[VERSIONS, HANDSHAKE], Protocol::Kafka, Phase::Start, &[]),
        (&[VERSIONS, HANDSHAKE, AUTHENTICATE], Protocol::Kafka, Phase::Named, password),
        (&[HANDSHAKE, b"\0\0\0\x0d\0app\0made-up"], Protocol::Kafka, Phase::Named, password),
        (&[HANDSHAKE, b"\0\0\0\x0fapp\0app\0made-up"], Protocol::Kafka, Phase::Named, password),
        (&[VERSIONS, SCRAM], Protocol::Kafka, Phase::Named, &[]),
        (&[VERSIONS, b"\0\0\0\x1a\0\x03\0\x01\0\0\0\x02\0\x08producer"], Protocol::Kafka, Phase::Named, &[]),
        (&[VERSIONS, b"\xff\xff\xff\xff"], Protocol::Kafka, Phase::Named, &[]),
    ];
    for (parts, protocol, ends, evidence) in cases {
        let stream = parts.concat();
        let shown = read(&stream, &[]);
        assert_eq!((shown.protocol, phase(&stream)), (protocol as u8, ends), "{}", stream.escape_ascii());
        assert_eq!(shown.evidence, evidence, "{}", stream.escape_ascii());
        assert!((0..stream.len()).all(|end| read(&stream, &[end]) == shown), "{}", stream.escape_ascii());
        // The protocol is told with the first message.
        assert_eq!(read(parts[0], &[]).protocol, protocol as u8, "{}", stream.escape_ascii());
    }
}

#[test]
fn what_opens_a_stream_says_nothing_in_mid_stream() {
    let streams: [&[u8]; 22] = [
        OPTIONS,
        STARTUP,
        b"\0\0\0\x29\0\x03\0\0user\0x\0database\0y\0\0",
        b"R\0\0\0\x08\0\0\0\x03",
        b"AMQP\0\0\x09\x01\x01\0\0\0\0\x01\x08\0\x0a\0\x0b\xce",
        b"CONNECT {\"verbose\":false}\r\n",
        b"INFO {\"server_id\":\"x\"}\r\n",
        b"\x10\x10\0\x04MQTT\x04\x02",
        b"get key1\r\n",
        b"version\r\n",
        b"stats\r\n",
        b"ruok",
        b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0",
        b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0",
        b"USER app\r\nPASS made-up\r\n",
        b"220 first\r\n",
        b"EHLO client\r\nMAIL FROM:<a@b>\r\n",
        b"* OK ready\r\n",
        b"+OK ready\r\n",
        b"<stream:stream to='x'><auth mechanism='PLAIN'>",
        b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0",
        b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10\0\0\x39",
    ];
    for stream in streams {
        let mut work = Work::new(Side { flags: Side::MET, ..Side::new() }, WINDOW);
        let mut rest = stream;
        while !rest.is_empty() {
            rest = &rest[step(&Frame(rest), &mut work, 0, rest.len() as u32) as usize..];
        }
        let shown = work.finish(false);
        let side = work.side;
        assert_eq!((shown.protocol, shown.evidence, side.greeting), (0, 0, 0), "{}", stream.escape_ascii());
        assert!(side.is(Phase::Opaque), "{}", stream.escape_ascii());
    }
    // What is known to speak one protocol does not turn to another.
    let http = post("", CALL);
    for stream in streams {
        let (shown, work) = read_to_end(&[http.as_bytes(), stream].concat(), &[]);
        assert_eq!(
            (shown.protocol, work.side.greeting),
            (Protocol::Mcp as u8, 0),
            "{}",
            stream.escape_ascii()
        );
    }
}

proptest! {
    /// Numbers of binary protocols are small, so their bytes are.
    #[test]
    fn of_bytes_met_in_mid_stream_only_what_is_said_over_and_over_is_believed(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), 1..=8_u8, 9..=18_u8, any::<u8>()], 1..64)
    ) {
        let mut work = Work::new(Side { flags: Side::MET, ..Side::new() }, WINDOW);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[step(&Frame(rest), &mut work, 0, rest.len() as u32) as usize..];
        }
        let shown = work.finish(false);
        let believed = [Protocol::Redis, Protocol::Mongodb, Protocol::Kafka, Protocol::Memcached];
        let other = shown.protocol >= Protocol::Redis as u8 && !believed.iter().any(|one| *one as u8 == shown.protocol);
        prop_assert!(!other, "protocol {}: {}", shown.protocol, bytes.escape_ascii());
        prop_assert!(shown.evidence & Evidence::PASSWORD.0 == 0, "{}", bytes.escape_ascii());
    }
}

/// AMQP's frames (0-9-1 §2.3.5) begin like a Cassandra frame where they are cut.
#[test]
fn what_is_like_a_frame_of_cassandra_is_none() {
    for stream in [
        &b"\x08\0\x14\0\x0b\0\0\0\0\xce"[..],
        b"\x06\0\0\0\x05\0\0\0\0",
        b"\x02\0\0\0\x05\0\0\0\0",
        b"\x04\0\0\0\x06\0\0\0\0",
        b"\x04\x01\0\0\x05\0\0\0\0",
        b"\x04\0\0\0\x05\0\0\0\x01",
        b"\x04\0\0\0\x01\x10\0\0\x16\0\x01\0\x0bCQL_VERSION",
    ] {
        assert_eq!(phase(&[stream, &[0xff; 12]].concat()), Phase::Opaque, "{}", stream.escape_ascii());
    }
}

#[test]
fn a_greeting_is_no_verdict_until_tls_is_declined() {
    let greetings: [(&[u8], Protocol); 12] = [
        (b"INFO {\"server_id\":\"x\"}\r\n", Protocol::Nats),
        (b"220 mail.example ESMTP\r\n", Protocol::Smtp),
        (b"220-first\r\n220 last\r\n", Protocol::Smtp),
        (b"EHLO client\r\n", Protocol::Smtp),
        // What a server offers reads like a client's command.
        (
            b"220 x\r\n250-mail.example\r\n250-AUTH LOGIN\r\n250-AUTH LOGIN PLAIN\r\n530 Login first\r\n",
            Protocol::Smtp,
        ),
        (b"USER app\r\n", Protocol::Ftp),
        (b"AUTH TLS\r\n", Protocol::Ftp),
        (b"FEAT\r\n", Protocol::Ftp),
        (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", Protocol::Imap),
        (b"+OK POP3 ready\r\n", Protocol::Pop3),
        (b"<?xml version='1.0'?><stream:stream to='x'>", Protocol::Xmpp),
        (b"<stream:stream to='x'>", Protocol::Xmpp),
    ];
    for (stream, protocol) in greetings {
        let (shown, work) = read_to_end(stream, &[]);
        assert_eq!(phase(stream), Phase::Commands, "{protocol:?}");
        assert_eq!((shown.protocol, work.side.greeting), (0, protocol as u8), "{protocol:?}");
    }
    let mysql = b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0";
    let (shown, work) = read_to_end(mysql, &[]);
    assert_eq!((shown.protocol, work.side.greeting), (0, Protocol::Mysql as u8));
}

#[test]
fn tls_is_found_behind_what_may_stand_before_it() {
    let proxy2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x9c\x40\x1f\x40";
    let before: [&[u8]; 12] = [
        b"INFO {\"tls_required\":true}\r\n",
        b"",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 8000\r\n",
        proxy2,
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\x08\x04\xd2\x16\x30",
        b"S",
        b"\x20\0\0\x01\x85\xae\x3f\0\0\0\0\x01\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"EHLO client\r\nSTARTTLS\r\n",
        b"a1 CAPABILITY\r\na2 STARTTLS\r\n",
        b"<stream:stream to='x'><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        b"AMQP\x02\x01\0\0",
    ];
    for preamble in before {
        let greeting: &[u8] = if preamble.starts_with(b"a1") { b"* OK ready\r\n" } else { b"" };
        let stream = [greeting, preamble, &HELLO].concat();
        assert_eq!(phase(&stream), Phase::Hello, "{preamble:?}");
        assert_eq!(read(&stream, &[]).protocol, 0, "{preamble:?}");
    }
    let stream = [proxy2, post("", CALL).as_bytes()].concat();
    assert_eq!(read(&stream, &[]).protocol, Protocol::Mcp as u8);
    let stream = format!("PROXY TCP6 ::1 ::1 1 2\r\n{}", post("", CALL));
    assert_eq!(read(stream.as_bytes(), &[]).protocol, Protocol::Mcp as u8);
}

#[test]
fn a_command_that_is_given_in_clear_declines_tls() {
    let streams: [(&[u8], Protocol); 7] = [
        (b"EHLO c\r\nMAIL FROM:<a@b>\r\n", Protocol::Smtp),
        (b"EHLO c\r\nAUTH LOGIN\r\n", Protocol::Smtp),
        (b"EHLO c\r\nAUTH PLAIN AGE=\r\n", Protocol::Smtp),
        (b"FEAT\r\nUSER app\r\nPASS made-up\r\n", Protocol::Ftp),
        (b"OPTS UTF8 ON\r\nUSER ftp\r\n", Protocol::Ftp),
        (b"<stream:stream to='x'><auth mechanism='PLAIN'>", Protocol::Xmpp),
        (b"<stream:stream to='x'><auth mechanism='SCRAM-SHA-1'>", Protocol::Xmpp),
    ];
    for (stream, protocol) in streams {
        assert_eq!(phase(stream), Phase::Named, "{protocol:?}");
        assert_eq!(read(stream, &[]).protocol, protocol as u8, "{protocol:?}");
    }
}

/// What a client of a server that spoke first has shown, whole and split at any byte.
fn client(greeting: Protocol, stream: &[u8]) -> (u8, u8, u64) {
    let shown = |end: usize| {
        let mut side = Side::new();
        side.begin_commands(greeting as u8, 4096);
        let (first, second) = stream.split_at(end);
        let mut evidence = 0;
        for piece in [first, second] {
            let mut work = Work::new(side, WINDOW);
            let mut rest = piece;
            while !rest.is_empty() {
                rest = &rest[step(&Frame(rest), &mut work, 0, rest.len() as u32) as usize..];
            }
            evidence |= work.finish(false).evidence;
            side = work.side;
        }
        (side.phase, side.greeting, evidence)
    };
    let whole = shown(0);
    for end in 1..stream.len() {
        assert_eq!(shown(end), whole, "split at {end}");
    }
    whole
}

#[test]
fn a_client_that_was_greeted_declines_tls_by_its_commands() {
    let password = Evidence::PASSWORD.0;
    let named = Phase::Named as u8;
    let waits = Phase::Commands as u8;
    for (greeting, stream, phase, evidence) in [
        (Protocol::Imap, &b"a1 LOGIN user pass\r\n"[..], named, password),
        (Protocol::Imap, b"001 login {4}\r\n", named, password),
        (Protocol::Imap, b"a1 CAPABILITY\r\na2 AUTHENTICATE PLAIN\r\n", named, password),
        (Protocol::Imap, b"a1 AUTHENTICATE XOAUTH2 dXNlcg==\r\n", named, password),
        (Protocol::Imap, b"a1 AUTHENTICATE PLAINER\r\n", named, 0),
        (Protocol::Imap, b"a1 AUTHENTICATE SCRAM-SHA-256\r\n", named, 0),
        (Protocol::Imap, b"a1 SELECT INBOX\r\n", named, 0),
        (Protocol::Imap, b"a1 CAPABILITY\r\na2 STARTTLS\r\n", waits, 0),
        (Protocol::Imap, b"a1 LOGINS\r\n", waits, 0),
        (Protocol::Pop3, b"USER app\r\nPASS made-up\r\n", named, password),
        (Protocol::Pop3, b"CAPA\r\nAUTH PLAIN\r\n", named, password),
        (Protocol::Pop3, b"USER app\r\n", waits, 0),
        (Protocol::Pop3, b"CAPA\r\nSTLS\r\n", waits, 0),
    ] {
        assert_eq!(client(greeting, stream), (phase, greeting as u8, evidence), "{}", stream.escape_ascii());
    }
}

/// A `StartOk` of AMQP 0-9-1 that logs in by a mechanism, behind the header.
fn amqp(mechanism: &[u8]) -> Vec<u8> {
    let table = b"\x07productS\0\0\0\x05plain";
    let login = [&[mechanism.len() as u8], mechanism, b"\0\0\0\x08\0app\0app\x05en_US"].concat();
    [&b"AMQP\0\0\x09\x01\x01\0\0\0\0\x01\x08\0\x0a\0\x0b\0\0\0\x12"[..], table, &login, b"\xce"].concat()
}

/// A simple bind of LDAP, or none: what stands behind the message's length.
const BIND: &[u8] = b"\x02\x01\x01\x60\x1e\x02\x01\x03\x04\x10cn=app,dc=a,dc=b\x80\x07made-up";

#[test]
fn a_login_that_can_be_read_is_told_and_no_other_is() {
    let [plain, amqplain, external] = [&b"PLAIN"[..], b"AMQPLAIN", b"EXTERNAL"].map(amqp);
    let binds = [&b"0\x23"[..], b"0\x81\x23", b"0\x82\x01\x23", b"0\x84\0\0\0\x23", b"0\x84\0\0\x01\x23"];
    let binds = binds.map(|length| [length, BIND].concat());
    let long: Vec<u8> =
        b"0\x84\0\0\0\x30\x02\x01\x01\x60\x84\0\0\0\x1e\x02\x01\x03\x04\x01x\x80\x01y".to_vec();
    let mut with: Vec<(&[u8], Protocol)> = vec![
        (b"EHLO c\r\nAUTH LOGIN\r\n", Protocol::Smtp),
        (b"EHLO c\r\nauth plain AGEAYg==\r\n", Protocol::Smtp),
        (b"EHLO c\r\nAUTH XOAUTH2 dXNlcg==\r\n", Protocol::Smtp),
        (b"USER app\r\nPASS made-up\r\n", Protocol::Ftp),
        (b"<stream:stream to='x'><auth xmlns='urn:x' mechanism='PLAIN'>AGEAYg==</auth>", Protocol::Xmpp),
        (b"*2\r\n$4\r\nAUTH\r\n$7\r\nmade-up\r\n", Protocol::Redis),
        (b"*3\r\n$4\r\nauth\r\n$3\r\napp\r\n$7\r\nmade-up\r\n", Protocol::Redis),
        (b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nmade-up\r\n", Protocol::Redis),
        (b"R\0\0\0\x08\0\0\0\x03", Protocol::Postgresql),
        (b"NR\0\0\0\x08\0\0\0\x03", Protocol::Postgresql),
        (b"\x10\x20\0\x04MQTT\x04\xc2\0\x3c", Protocol::Mqtt),
        (b"\x10\x20\0\x04MQTT\x05\xc0\0\x3c", Protocol::Mqtt),
        (b"\x10\x20\0\x06MQIsdp\x03\xce\0\x3c", Protocol::Mqtt),
        (b"CONNECT {\"verbose\":false,\"user\":\"app\",\"pass\":\"made-up\"}\r\n", Protocol::Nats),
        (b"CONNECT {\"auth_token\": \"made-up\"}\r\n", Protocol::Nats),
        (b"\x16\0\0\x02\xfemysql_clear_password\0", Protocol::Mysql),
        (b"\x17\0\0\x02\xfemysql_clear_password\0\0", Protocol::Mysql),
        (&plain, Protocol::Amqp),
        (&amqplain, Protocol::Amqp),
        (&long, Protocol::Ldap),
    ];
    with.extend(binds.iter().map(|bind| (&bind[..], Protocol::Ldap)));
    let without: [(&[u8], Protocol); 20] = [
        (b"EHLO c\r\nAUTH CRAM-MD5\r\nMAIL FROM:<a@b>\r\n", Protocol::Smtp),
        (b"EHLO c\r\nMAIL FROM:<login@b>\r\n", Protocol::Smtp),
        (b"USER anonymous\r\nPASS ftp@example.com\r\n", Protocol::Ftp),
        (b"<stream:stream to='x'><auth mechanism='SCRAM-SHA-1'>PLAIN</auth>", Protocol::Xmpp),
        (b"<stream:stream to='x'><iq type='set'>", Protocol::Xmpp),
        (b"*1\r\n$4\r\nPING\r\n", Protocol::Redis),
        (b"*2\r\n$3\r\nGET\r\n$4\r\nAUTH\r\n", Protocol::Redis),
        (b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", Protocol::Redis),
        (b"*4\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n$4\r\nAUTH\r\n", Protocol::Redis),
        (b"*2\r\n:1\r\n:2\r\n", Protocol::Redis),
        (b"R\0\0\0\x08\0\0\0\0", Protocol::Postgresql),
        (b"\x10\x20\0\x04MQTT\x04\x82\0\x3c", Protocol::Mqtt),
        (b"\x10\x20\0\x04MQTT\x04\x02\0\x3c", Protocol::Mqtt),
        (b"CONNECT {\"pass\":\"\",\"name\":\"pass\",\"jwt\":\"x\"}\r\n", Protocol::Nats),
        (&external, Protocol::Amqp),
        // Nobody, a name without a password, SASL, and a search.
        (b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0", Protocol::Ldap),
        (b"0\x0d\x02\x01\x01\x60\x08\x02\x01\x03\x04\x01x\x80\0", Protocol::Ldap),
        (b"0\x18\x02\x01\x01\x60\x13\x02\x01\x03\x04\0\xa3\x0c\x04\x0aDIGEST-MD5", Protocol::Ldap),
        (b"0\x25\x02\x01\x01\x63\x20\x04\0\x0a\x01\0", Protocol::Ldap),
        (b"0\x84\0\0\0\x25\x02\x01\x01\x63\x84\0\0\0\x20\x04\0", Protocol::Ldap),
    ];
    for (stream, protocol) in with {
        let shown = read(stream, &[]);
        assert_eq!(
            (shown.protocol, shown.phase),
            (protocol as u8, Phase::Named as u8),
            "{}",
            stream.escape_ascii()
        );
        assert_eq!(shown.evidence, ["password"], "{}", stream.escape_ascii());
        assert!((0..stream.len()).all(|end| read(stream, &[end]) == shown), "{}", stream.escape_ascii());
    }
    for (stream, protocol) in without {
        let shown = read(stream, &[]);
        assert_eq!(
            (shown.protocol, shown.phase),
            (protocol as u8, Phase::Named as u8),
            "{}",
            stream.escape_ascii()
        );
        assert!(shown.evidence.is_empty(), "{}: {shown:?}", stream.escape_ascii());
        assert!((0..stream.len()).all(|end| read(stream, &[end]) == shown), "{}", stream.escape_ascii());
    }
}

#[test]
fn an_ssl_2_hello_is_weak_tls() {
    let hello = b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10\0\0\x39";
    assert_eq!(phase(hello), Phase::Tls);
    assert_eq!(read(hello, &[]).evidence, ["offers-weak-tls"]);
}

#[test]
fn what_is_unknown_is_opaque() {
    let streams: [&[u8]; 12] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\x08\0\0\0\0\x01",
        b"\x80\x2e\x01\x04\x01\0\x15\0\0\0\x10",
        b"\xff\xff\xff\xff",
        b"hello world",
        b"GETX / HTTP/1.1\r\n\r\n",
        b"POST\r\n",
        b"0\x0c\x02\x01\x02`\x07",
        b"AMQP\x09\x09",
        b"\x10\x10\0\x04MQTX",
        b"\x3f\0\0\0\x01\0\0\0\x01\0\0\0\xdd\x07\0\0",
        b"\x04\0\0\0\x09\0\0\0\0",
    ];
    for stream in streams {
        assert_eq!(phase(stream), Phase::Opaque, "{stream:?}");
    }
}
