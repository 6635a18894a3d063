//! Owns the bytes that are sent: frames of test runs, and what the two sides of a connection say.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, bail};
use detector_tests::{
    frames::{Frame, PSH, RST, SYN},
    pcap,
};

/// Length of the settled packet's frame.
pub(crate) const FULL: usize = 1400;
/// Sequence number of a client's SYN; its first byte follows.
pub(crate) const SYN_AT: u32 = 1_000_000;

/// Which headers a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// A client's segment. The drive of a run writes the client's address and port into it.
    fn segment(self, subnet: u8) -> Frame {
        let (client, server): (SocketAddr, SocketAddr) = match self {
            Self::V4 => (
                (Ipv4Addr::new(10, subnet, 0, 2), 40_000).into(),
                (Ipv4Addr::new(10, subnet, 255, 1), 8443).into(),
            ),
            Self::V6 => {
                let subnet = u16::from(subnet);
                (
                    (Ipv6Addr::new(0xfd00, 0x10, 0x244, subnet, 0, 0, 0, 2), 40_000).into(),
                    (Ipv6Addr::new(0xfd00, 0x10, 0x244, subnet, 0, 0, 1, 1), 8443).into(),
                )
            }
        };
        // Timestamps, as nearly every segment has them.
        Frame::tcp(client, server).tcp_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
    }

    /// A full packet of random payload, as the middle of a TLS record is.
    pub(crate) fn settled(self) -> Vec<u8> {
        let segment = self.segment(1);
        let head = segment.build().len();
        segment.flags(PSH | 0x10).payload(noise(FULL - head)).build()
    }

    pub(crate) fn syn(self, subnet: u8) -> Vec<u8> {
        self.segment(subnet).flags(SYN).seq(SYN_AT).build()
    }

    pub(crate) fn reset(self, subnet: u8) -> Vec<u8> {
        self.segment(subnet).flags(RST).seq(SYN_AT + 1).build()
    }

    /// What the client says `after` bytes.
    pub(crate) fn says(self, subnet: u8, after: usize, payload: &[u8]) -> Vec<u8> {
        let sequence = SYN_AT + 1 + u32::try_from(after).unwrap_or(0);
        self.segment(subnet).flags(PSH | 0x10).seq(sequence).payload(payload).build()
    }
}

/// Real ClientHellos that fit into one segment.
pub(crate) struct Hellos {
    pub(crate) short: Vec<u8>,
    /// With a post-quantum key share, as current clients send it.
    pub(crate) long: Vec<u8>,
}

pub(crate) fn client_hellos() -> Result<Hellos> {
    const HANDSHAKE: [u8; 3] = [22, 3, 1];
    let frames = pcap::read("tls-clienthellos.pcap")?;
    let hellos = frames.iter().filter_map(|captured| {
        let at = captured.frame.windows(3).position(|bytes| bytes == HANDSHAKE)?;
        let hello = captured.frame.get(at..)?;
        let length = u16::from_be_bytes([*hello.get(3)?, *hello.get(4)?]);
        (hello.len() == usize::from(length) + 5 && hello.get(5) == Some(&1)).then(|| hello.to_vec())
    });
    let mut hellos: Vec<Vec<u8>> = hellos.collect();
    hellos.sort_by_key(Vec::len);
    match (hellos.first(), hellos.last()) {
        (Some(short), Some(long)) => Ok(Hellos { short: short.clone(), long: long.clone() }),
        _ => bail!("no capture of a ClientHello in one segment"),
    }
}

/// The head of an MCP request that shows all evidence that a head can, of exactly so many bytes. The
/// credential takes the room, as long tokens do.
pub(crate) fn request_head(length: usize) -> Vec<u8> {
    let before = "POST /mcp HTTP/1.1\r\nHost: tools:8080\r\nAuthorization: Bearer ";
    let after = "\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
                 Cookie: a=b\r\nX-Api-Key: k\r\nMcp-Session-Id: 1\r\nMcp-Protocol-Version: 2025-06-18\r\n\
                 Mcp-Method: tools/call\r\nMcp-Name: search\r\nContent-Length: 0\r\n\r\n";
    let token = "x".repeat(length.saturating_sub(before.len() + after.len()));
    [before, &token, after].concat().into_bytes()
}

/// An MCP request with a body of so many bytes.
pub(crate) fn mcp_request(body: usize) -> Vec<u8> {
    let start =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"q":""#;
    let text = format!("{start}{}\"}}}}}}", "y".repeat(body.saturating_sub(start.len() + 4)));
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: tools:8080\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nMcp-Session-Id: 1\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    (head + &text).into_bytes()
}

/// A request of plain HTTP, as services send to each other.
pub(crate) fn http_request() -> Vec<u8> {
    "GET /api/v1/items/42?fields=name,price HTTP/1.1\r\nHost: catalog.shop.svc.cluster.local:8080\r\n\
     User-Agent: shop-frontend/1.4\r\nAccept: text/plain\r\nX-Request-Id: 5f1c2d0e\r\n\r\n"
        .as_bytes()
        .to_vec()
}

/// Its answer.
pub(crate) fn http_response() -> Vec<u8> {
    let body = "z".repeat(128);
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: catalog\r\nContent-Length: 128\r\n\r\n";
    [head, &body].concat().into_bytes()
}

/// What a TLS server answers first: the shape of a ServerHello's record.
pub(crate) fn server_hello() -> Vec<u8> {
    let mut record = vec![22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3];
    record.extend(noise(116));
    record
}

/// A TLS record of application data.
pub(crate) fn record(length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut record = vec![23, 3, 3, high, low];
    record.extend(noise(usize::from(length)));
    record
}

/// Bytes that look random and are the same in every run (xorshift).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}
