//! Beginnings of everything else that runs in clusters, and what they must not be taken for.

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
    let streams: [(&[u8], Protocol); 27] = [
        (b"*1\r\n$4\r\nPING\r\n", Protocol::Redis),
        (b"+PONG\r\n", Protocol::Redis),
        (b"-NOAUTH Authentication required.\r\n", Protocol::Redis),
        (b"\0\0\0\x29\0\x03\0\0user\0x\0database\0y\0\0", Protocol::Postgresql),
        (b"\0\0\x01\x29\0\x03\0\x02database\0y\0user\0x\0\0", Protocol::Postgresql),
        (b"\x3f\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0", Protocol::Mongodb),
        (b"\x3f\x01\0\0\x01\x02\x03\0\0\0\0\0\xd4\x07\0\0\0\0\0\0", Protocol::Mongodb),
        (b"AMQP\0\0\x09\x01", Protocol::Amqp),
        (b"AMQP\x03\x01\0\0", Protocol::Amqp),
        (b"INFO {\"server_id\":\"x\"}\r\n", Protocol::Nats),
        (b"CONNECT {\"verbose\":false}\r\n", Protocol::Nats),
        (b"\0\0\0\x1a\0\x12\0\x03\0\0\0\x01\0\x08producer", Protocol::Kafka),
        (b"\0\0\0\x1a\0\x03\0\x01\0\0\0\x01\0\x08producer", Protocol::Kafka),
        (b"\0\0\0\x1a\0\x03\0\0\0\0\0\x01\0\x08producer", Protocol::Kafka),
        (b"\x10\x10\0\x04MQTT\x04\x02", Protocol::Mqtt),
        (b"\x10\xa0\x01\0\x04MQTT\x05\x02", Protocol::Mqtt),
        (b"\x10\x10\0\x06MQIsdp\x03", Protocol::Mqtt),
        (b"set key 0 0 5\r\nvalue\r\n", Protocol::Memcached),
        (b"get key1\r\n", Protocol::Memcached),
        (b"version\r\n", Protocol::Memcached),
        (b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0", Protocol::Zookeeper),
        (b"ruok", Protocol::Zookeeper),
        (b"\x04\0\0\0\x05\0\0\0\0", Protocol::Cassandra),
        (b"\x05\0\0\x01\x05\0\0\0\0", Protocol::Cassandra),
        (b"\x04\0\0\x01\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.0.0", Protocol::Cassandra),
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

#[test]
fn a_greeting_is_no_verdict_until_tls_is_declined() {
    let greetings: [(&[u8], Protocol); 7] = [
        (b"220 mail.example ESMTP\r\n", Protocol::Smtp),
        (b"220-first\r\n220 last\r\n", Protocol::Smtp),
        (b"EHLO client\r\n", Protocol::Smtp),
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
    let before: [&[u8]; 11] = [
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
    let streams: [(&[u8], Protocol); 5] = [
        (b"EHLO c\r\nMAIL FROM:<a@b>\r\n", Protocol::Smtp),
        (b"EHLO c\r\nAUTH LOGIN\r\n", Protocol::Smtp),
        (b"EHLO c\r\nAUTH PLAIN AGE=\r\n", Protocol::Smtp),
        (b"* OK x\r\na1 LOGIN user pass\r\n", Protocol::Imap),
        (b"<stream:stream to='x'><auth mechanism='PLAIN'>", Protocol::Xmpp),
    ];
    for (stream, protocol) in streams {
        assert_eq!(phase(stream), Phase::Named, "{protocol:?}");
        assert_eq!(read(stream, &[]).protocol, protocol as u8, "{protocol:?}");
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
