//! Builders of captures and of the packets in them, for the tests here.

use std::net::{IpAddr, SocketAddr};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

/// An Ethernet frame with a TCP segment over IPv4 or IPv6.
pub(super) fn tcp(from: &str, to: &str, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let len = u16::try_from(20 + payload.len()).unwrap();
    let (ethertype, ip): (u16, Vec<u8>) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = (len + 20).to_be_bytes();
            let head = [0x45, 0, high, low, 0, 0, 0, 0, 64, 6, 0, 0];
            (0x0800, [&head[..], &from.octets(), &to.octets()].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = len.to_be_bytes();
            (0x86dd, [&[0x60, 0, 0, 0, high, low, 6, 64][..], &from.octets(), &to.octets()].concat())
        }
        _ => panic!("{from} and {to} are of two families"),
    };
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(ip);
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// The frames of a connection: each message is said by the client (true) or by the server.
pub(super) fn connection(client: &str, server: &str, messages: &[(bool, &[u8])]) -> Vec<Vec<u8>> {
    let mut next = [1001_u32, 5001];
    let mut frames = vec![tcp(client, server, 1000, SYN, b""), tcp(server, client, 5000, SYN | ACK, b"")];
    let mut say = |by_client: bool, flags: u8, payload: &[u8]| {
        let (from, to) = if by_client { (client, server) } else { (server, client) };
        let sequence = &mut next[usize::from(!by_client)];
        let frame = tcp(from, to, *sequence, flags, payload);
        *sequence = sequence.wrapping_add(u32::try_from(payload.len()).unwrap());
        frame
    };
    frames.extend(messages.iter().map(|(by_client, payload)| say(*by_client, ACK, payload)));
    frames.push(say(true, FIN | ACK, b""));
    frames.push(say(false, FIN | ACK, b""));
    frames
}

/// A request of MCP, and its answer.
pub(super) const MCP: [(bool, &[u8]); 2] = [
    (
        true,
        b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 46\r\n\r\n{\"method\":\"tools/list\",\"jsonrpc\":\"2.0\",\"id\":1}",
    ),
    (false, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
];

/// The head of a little-endian pcap file with microseconds.
pub(super) fn pcap_head(link: u32) -> Vec<u8> {
    let mut head = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    head.extend([0; 8]);
    head.extend(262_144_u32.to_le_bytes());
    head.extend(link.to_le_bytes());
    head
}

/// A record of a little-endian pcap file, of a packet that was `original` bytes long.
pub(super) fn pcap_record(at: (u32, u32), packet: &[u8], original: usize) -> Vec<u8> {
    let words = [at.0, at.1, u32::try_from(packet.len()).unwrap(), u32::try_from(original).unwrap()];
    let mut record: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    record.extend(packet);
    record
}

/// A pcap file, its packets a millisecond apart.
pub(super) fn pcap(link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = pcap_head(link);
    for (index, packet) in (0..).zip(packets) {
        file.extend(pcap_record((1_700_000_000 + index / 1000, index % 1000 * 1000), packet, packet.len()));
    }
    file
}

/// Writes blocks of a pcapng file in one byte order.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub(super) big_endian: bool,
}

impl Blocks {
    pub(super) fn word(self, word: u32) -> [u8; 4] {
        if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() }
    }

    fn half(self, half: u16) -> [u8; 2] {
        if self.big_endian { half.to_be_bytes() } else { half.to_le_bytes() }
    }

    pub(super) fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let body = padded(body);
        let len = self.word(u32::try_from(body.len() + 12).unwrap());
        [&self.word(kind)[..], &len, &body, &len].concat()
    }

    pub(super) fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let len = self.half(u16::try_from(value.len()).unwrap());
        [&self.half(code)[..], &len, &padded(value)].concat()
    }

    pub(super) fn section(self) -> Vec<u8> {
        let body = [&self.word(0x1a2b_3c4d)[..], &self.half(1), &self.half(0), &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    pub(super) fn interface(self, link: u16, snap_len: u32, options: &[Vec<u8>]) -> Vec<u8> {
        let body = [&self.half(link)[..], &[0, 0], &self.word(snap_len), &options.concat()].concat();
        self.block(1, &body)
    }

    pub(super) fn packet(self, interface: u32, time: u64, packet: &[u8], options: &[Vec<u8>]) -> Vec<u8> {
        let len = u32::try_from(packet.len()).unwrap();
        let words = [interface, (time >> 32) as u32, (time & 0xffff_ffff) as u32, len, len];
        let mut body: Vec<u8> = words.into_iter().flat_map(|word| self.word(word)).collect();
        body.extend(padded(packet));
        body.extend(options.concat());
        self.block(6, &body)
    }

    pub(super) fn simple(self, original: u32, packet: &[u8]) -> Vec<u8> {
        self.block(3, &[&self.word(original)[..], packet].concat())
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
