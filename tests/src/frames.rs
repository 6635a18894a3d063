//! Owns a builder of Ethernet frames that carry TCP, with every header that the packet walk must follow.
//!
//! Lengths and checksums are right unless a test sets them otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_TCP: u8 = 6;

/// Tag protocol identifier of 802.1Q.
pub const VLAN: u16 = 0x8100;
/// Tag protocol identifier of 802.1ad, the outer tag of QinQ.
pub const QINQ: u16 = 0x88a8;

/// TCP flag FIN.
pub const FIN: u8 = 0x01;
/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag RST.
pub const RST: u8 = 0x04;
/// TCP flag PSH.
pub const PSH: u8 = 0x08;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Frame {
    source: SocketAddr,
    destination: SocketAddr,
    tags: Vec<(u16, u16)>,
    ip_options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    fragment: Option<(u16, bool)>,
    protocol: u8,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    tcp_options: Vec<u8>,
    payload: Vec<u8>,
}

impl Frame {
    /// A TCP segment without payload, with ACK set, between two addresses of one family.
    ///
    /// # Panics
    ///
    /// The addresses are of different families.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{source} and {destination} are of two families");
        Self {
            source,
            destination,
            tags: Vec::new(),
            ip_options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            protocol: PROTOCOL_TCP,
            sequence: 1,
            acknowledgement: 1,
            flags: ACK,
            tcp_options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// [`Self::tcp`] over IPv4.
    #[must_use]
    pub fn tcp4(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Self {
        Self::tcp(source.into(), destination.into())
    }

    /// [`Self::tcp`] over IPv6.
    #[must_use]
    pub fn tcp6(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16)) -> Self {
        Self::tcp(source.into(), destination.into())
    }

    /// Sets the TCP flags.
    #[must_use]
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the sequence number.
    #[must_use]
    pub fn seq(mut self, number: u32) -> Self {
        self.sequence = number;
        self
    }

    /// Sets the acknowledgement number.
    #[must_use]
    pub fn ack(mut self, number: u32) -> Self {
        self.acknowledgement = number;
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// Adds a tag inside of those that are there: [`VLAN`] or [`QINQ`], and the VLAN's number.
    #[must_use]
    pub fn tag(mut self, protocol: u16, id: u16) -> Self {
        self.tags.push((protocol, id));
        self
    }

    /// Sets the IPv4 options, padded with End of Options to whole words.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = padded(options, 4);
        self
    }

    /// Sets the TCP options, padded with End of Options to whole words.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = padded(options, 4);
        self
    }

    /// Adds an IPv6 extension header of the given type; `body` follows its two leading bytes.
    #[must_use]
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Self {
        // Lengths count eight bytes, and the two leading bytes are among the first eight.
        let mut body = padded(&[&[0, 0], body].concat(), 8);
        body.drain(..2);
        self.extensions.push((kind, body));
        self
    }

    /// Makes it a fragment: offset in units of eight bytes, and whether more follow. Over IPv6 the fragment
    /// header stands after the other extension headers.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Claims another protocol than TCP in the IP header.
    #[must_use]
    pub fn protocol(mut self, number: u8) -> Self {
        self.protocol = number;
        self
    }

    /// The frame's bytes.
    ///
    /// # Panics
    ///
    /// A header is longer than its length field can say.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let tcp = self.segment();
        let mut frame = vec![0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01];
        for (protocol, id) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(ETHERTYPE_IPV4.to_be_bytes());
                frame.extend(self.ipv4(source, destination, tcp.len()));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend(ETHERTYPE_IPV6.to_be_bytes());
                frame.extend(self.ipv6(source, destination, tcp.len()));
            }
            _ => unreachable!("the constructor takes one family only"),
        }
        frame.extend(tcp);
        frame
    }

    fn segment(&self) -> Vec<u8> {
        let words = u8::try_from(5 + self.tcp_options.len() / 4).expect("TCP options of at most 40 bytes");
        assert!(words <= 15, "TCP options of at most 40 bytes");
        let mut tcp = Vec::new();
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.extend([words << 4, self.flags]);
        tcp.extend(0xffff_u16.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.tcp_options);
        tcp.extend(&self.payload);
        let length = u32::try_from(tcp.len()).expect("a segment of less than 4 GiB");
        let mut pseudo = Vec::new();
        for address in [self.source.ip(), self.destination.ip()] {
            match address {
                IpAddr::V4(address) => pseudo.extend(address.octets()),
                IpAddr::V6(address) => pseudo.extend(address.octets()),
            }
        }
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(u32::from(PROTOCOL_TCP).to_be_bytes());
        put_checksum(&mut tcp, 16, &pseudo);
        tcp
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr, payload: usize) -> Vec<u8> {
        let length = 20 + self.ip_options.len();
        let words = u8::try_from(length / 4).expect("IPv4 options of at most 40 bytes");
        assert!(words <= 15, "IPv4 options of at most 40 bytes");
        let (offset, more) = self.fragment.unwrap_or_default();
        // Don't Fragment, as Linux sends it, unless it is a fragment.
        let flags = if self.fragment.is_none() { 0x4000 } else { u16::from(more) << 13 };
        let mut header = vec![0x40 | words, 0];
        header.extend(total_length(length + payload).to_be_bytes());
        header.extend([0, 1]);
        header.extend((flags | offset).to_be_bytes());
        header.extend([64, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.ip_options);
        put_checksum(&mut header, 10, &[]);
        header
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr, payload: usize) -> Vec<u8> {
        const FRAGMENT: u8 = 44;
        let mut extensions = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let field = (offset << 3) | u16::from(more);
            extensions.push((FRAGMENT, [&field.to_be_bytes()[..], &[0, 0, 0, 1]].concat()));
        }
        let mut kinds = extensions.iter().map(|(kind, _)| *kind).chain([self.protocol]);
        let first = kinds.next().unwrap_or(self.protocol);
        let mut chain = Vec::new();
        for ((kind, body), next) in extensions.iter().zip(kinds) {
            // The fragment header's second byte is reserved; it has no length.
            let length = if *kind == FRAGMENT { 0 } else { (body.len() + 2) / 8 - 1 };
            chain.extend([next, u8::try_from(length).expect("an extension header of at most 2 KiB")]);
            chain.extend(body);
        }
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(total_length(chain.len() + payload).to_be_bytes());
        header.extend([first, 64]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(chain);
        header
    }
}

/// A length field; 0 for what does not fit, as BIG TCP has it.
fn total_length(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(0)
}

fn padded(bytes: &[u8], to: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(to), 0);
    bytes
}

/// Puts the internet checksum (RFC 1071) of `prefix` and `bytes` into `bytes` at `at`, where zeros stand.
fn put_checksum(bytes: &mut [u8], at: usize, prefix: &[u8]) {
    let sum = checksum(prefix, bytes);
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

fn checksum(prefix: &[u8], bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for half in [prefix, bytes] {
        for word in half.chunks(2) {
            let (high, low) = (word.first().copied(), word.get(1).copied());
            sum += u64::from(u16::from_be_bytes([high.unwrap_or(0), low.unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests;
