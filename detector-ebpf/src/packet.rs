//! Owns the walk from an Ethernet frame to its TCP segment.
//!
//! The walk believes nothing but the headers' own structure: IHL, extension header lengths and the data
//! offset are honoured, and a packet that cannot be walked leaves with the [`Counter`] that says why. Only
//! the headers lie in the linear part of a veth's packet, so the payload is never touched here.

use crate::counter::Counter;

const ETHERNET_LEN: u32 = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Tags of 802.1ad before it was a standard.
const ETHERTYPE_QINQ_OLD: u16 = 0x9100;
/// 802.1ad allows two tags; accelerated ones are not in the data.
const VLAN_TAGS: u32 = 2;

const PROTOCOL_TCP: u8 = 6;
const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_AUTHENTICATION: u8 = 51;
const IPV6_DESTINATION: u8 = 60;
const IPV6_MOBILITY: u8 = 135;
/// RFC 8200 §4.1 recommends at most one of each kind but for destination options.
const IPV6_EXTENSIONS: u32 = 6;

/// Ethernet's least frame without its check sequence: a shorter packet is padded up to it.
const ETHERNET_MIN: u32 = 60;

/// The bytes of one packet, from its Ethernet header on.
pub trait Packet {
    /// Length of the packet, paged parts included.
    fn len(&self) -> u32;

    /// Whether the packet has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes of a header, or `None` where they are not all there.
    fn header<const N: usize>(&self, at: u32) -> Option<impl Header>;

    /// Copies `len` bytes of payload, at most a block, from `at`. False when they are not there.
    fn block(&self, at: u32, len: u32, into: &mut [u8; BLOCK]) -> bool;
}

/// Bytes of a header that were checked to be there. `AT` must lie in them.
pub trait Header {
    /// One byte.
    fn byte<const AT: usize>(&self) -> u8;
    /// Two bytes, from network order.
    fn short<const AT: usize>(&self) -> u16;
    /// Four bytes, as they lie in memory.
    fn word<const AT: usize>(&self) -> u32;
}

#[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
impl<const N: usize> Header for [u8; N] {
    #[inline(always)]
    fn byte<const AT: usize>(&self) -> u8 {
        const { assert!(AT < N) };
        self[AT]
    }

    #[inline(always)]
    fn short<const AT: usize>(&self) -> u16 {
        const { assert!(AT + 1 < N) };
        u16::from_be_bytes([self[AT], self[AT + 1]])
    }

    #[inline(always)]
    fn word<const AT: usize>(&self) -> u32 {
        const { assert!(AT + 3 < N) };
        u32::from_ne_bytes([self[AT], self[AT + 1], self[AT + 2], self[AT + 3]])
    }
}

/// Bytes of payload that are read at once.
pub const BLOCK: usize = 128;

/// An address as four words in network order; an IPv4 address is mapped (`::ffff:a.b.c.d`).
pub type Words = [u32; 4];

/// A TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Source address.
    pub source: Words,
    /// Destination address.
    pub destination: Words,
    /// Source port in host order.
    pub source_port: u16,
    /// Destination port in host order.
    pub destination_port: u16,
    /// Sequence number of the first byte of payload, or of the SYN.
    pub sequence: u32,
    /// TCP flags, see [`Segment::SYN`] and its siblings.
    pub flags: u8,
    /// Where the payload begins in the packet.
    pub payload_at: u32,
    /// Length of the payload.
    pub payload_len: u32,
}

impl Segment {
    /// The sender has no more data.
    pub const FIN: u8 = 0x01;
    /// The sender opens the connection.
    pub const SYN: u8 = 0x02;
    /// The connection is reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;

    /// Whether any of these flags is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// Where the IP header ends and what it said.
struct Network {
    source: Words,
    destination: Words,
    transport_at: u32,
    /// Where the network header says that the packet ends; 0 when it does not say (BIG TCP, jumbograms).
    end: u32,
}

/// What a glance at a packet's first bytes tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// A TCP segment behind plain headers.
    Segment(Segment),
    /// Nothing that is looked at, for this reason.
    Other(Counter),
    /// Headers that want a [`walk`]: tags, options, extensions, or such as are not in the linear part.
    Unclear,
}

/// Looks at the headers where they stand in nearly every packet: Ethernet, IPv4 without options or IPv6
/// without extensions, TCP.
///
/// All offsets are constants: one comparison with the packet's end serves a whole header.
#[inline(always)]
pub fn glance<P: Packet>(packet: &P) -> Glance {
    const TCP_IN_IPV4: u32 = ETHERNET_LEN + 20;
    const TCP_IN_IPV6: u32 = ETHERNET_LEN + 40;
    let Some(ethernet) = packet.header::<14>(0) else {
        return Glance::Unclear;
    };
    match ethernet.short::<12>() {
        ETHERTYPE_IPV4 => {
            let Some(ip) = packet.header::<20>(ETHERNET_LEN) else {
                return Glance::Unclear;
            };
            if ip.byte::<0>() != 0x45 {
                return Glance::Unclear;
            }
            match ipv4_header(&ip, ETHERNET_LEN) {
                Ok(network) => plain(packet, &network, packet.header::<20>(TCP_IN_IPV4)),
                Err(counter) => Glance::Other(counter),
            }
        }
        ETHERTYPE_IPV6 => {
            let Some(ip) = packet.header::<40>(ETHERNET_LEN) else {
                return Glance::Unclear;
            };
            if ip.byte::<0>() >> 4 != 6 || ip.byte::<6>() != PROTOCOL_TCP {
                return Glance::Unclear;
            }
            plain(packet, &ipv6_header(&ip, ETHERNET_LEN), packet.header::<20>(TCP_IN_IPV6))
        }
        ethertype if is_vlan(ethertype) => Glance::Unclear,
        _ => Glance::Other(Counter::NotIp),
    }
}

#[inline(always)]
fn plain<P: Packet>(packet: &P, network: &Network, tcp: Option<impl Header>) -> Glance {
    match tcp.map(|tcp| segment(packet, network, &tcp)) {
        Some(Ok(segment)) => Glance::Segment(segment),
        _ => Glance::Unclear,
    }
}

/// Walks a packet to its TCP segment.
///
/// # Errors
///
/// The counter that says why the packet is none that is looked at.
#[inline(always)]
pub fn walk<P: Packet>(packet: &P) -> Result<Segment, Counter> {
    let ethernet = packet.header::<14>(0).ok_or(Counter::Malformed)?;
    let mut ethertype = ethernet.short::<12>();
    let mut network_at = ETHERNET_LEN;
    if ethertype != ETHERTYPE_IPV4 && ethertype != ETHERTYPE_IPV6 {
        for _ in 0..VLAN_TAGS {
            if !is_vlan(ethertype) {
                break;
            }
            let tag = packet.header::<4>(network_at).ok_or(Counter::Malformed)?;
            ethertype = tag.short::<2>();
            network_at += 4;
        }
        if is_vlan(ethertype) {
            return Err(Counter::VlanDepth);
        }
    }
    let network = match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, network_at)?,
        ETHERTYPE_IPV6 => ipv6(packet, network_at)?,
        _ => return Err(Counter::NotIp),
    };
    tcp(packet, &network)
}

const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD)
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: u32) -> Result<Network, Counter> {
    let ip = packet.header::<20>(at).ok_or(Counter::Malformed)?;
    ipv4_header(&ip, at)
}

#[inline(always)]
fn ipv4_header(ip: &impl Header, at: u32) -> Result<Network, Counter> {
    let version_ihl = ip.byte::<0>();
    let header = u32::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header < 20 {
        return Err(Counter::Malformed);
    }
    if ip.byte::<9>() != PROTOCOL_TCP {
        return Err(Counter::NotTcp);
    }
    // The offset is the low 13 bits (RFC 791 §3.1); the first fragment has the TCP header.
    if ip.short::<6>() & 0x1fff != 0 {
        return Err(Counter::Fragment);
    }
    let total = u32::from(ip.short::<2>());
    Ok(Network {
        source: mapped(ip.word::<12>()),
        destination: mapped(ip.word::<16>()),
        transport_at: at + header,
        // BIG TCP leaves the length at 0 (Linux b1a78b9b9886, "net: add support for ipv4 big tcp").
        end: if total == 0 { 0 } else { at + total },
    })
}

#[inline(always)]
const fn mapped(address: u32) -> Words {
    [0, 0, 0xffff_u32.to_be(), address]
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: u32) -> Result<Network, Counter> {
    let ip = packet.header::<40>(at).ok_or(Counter::Malformed)?;
    if ip.byte::<0>() >> 4 != 6 {
        return Err(Counter::Malformed);
    }
    let mut network = ipv6_header(&ip, at);
    let mut next = ip.byte::<6>();
    if next != PROTOCOL_TCP {
        for _ in 0..IPV6_EXTENSIONS {
            let units = match next {
                IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_DESTINATION | IPV6_MOBILITY => 8,
                IPV6_AUTHENTICATION => 4,
                IPV6_FRAGMENT => 0,
                _ => break,
            };
            let extension = packet.header::<4>(network.transport_at).ok_or(Counter::Malformed)?;
            // RFC 8200 §4.5: the offset is the high 13 bits.
            if next == IPV6_FRAGMENT && extension.short::<2>() & 0xfff8 != 0 {
                return Err(Counter::Fragment);
            }
            next = extension.byte::<0>();
            // RFC 8200 §4.3 counts units of eight bytes after the first; RFC 4302 §2.2 units of four
            // after the first two; a fragment header is eight bytes long and has no length.
            network.transport_at += 8 + u32::from(extension.byte::<1>()) * units;
        }
        if next != PROTOCOL_TCP {
            return Err(match next {
                IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_DESTINATION | IPV6_MOBILITY | IPV6_AUTHENTICATION
                | IPV6_FRAGMENT => Counter::Ipv6Extension,
                _ => Counter::NotTcp,
            });
        }
    }
    Ok(network)
}

/// What the fixed header of IPv6 says, as if nothing stood between it and TCP.
#[inline(always)]
fn ipv6_header(ip: &impl Header, at: u32) -> Network {
    let payload = u32::from(ip.short::<4>());
    Network {
        source: [ip.word::<8>(), ip.word::<12>(), ip.word::<16>(), ip.word::<20>()],
        destination: [ip.word::<24>(), ip.word::<28>(), ip.word::<32>(), ip.word::<36>()],
        transport_at: at + 40,
        end: if payload == 0 { 0 } else { at + 40 + payload },
    }
}

#[inline(always)]
fn tcp<P: Packet>(packet: &P, network: &Network) -> Result<Segment, Counter> {
    let tcp = packet.header::<20>(network.transport_at).ok_or(Counter::Malformed)?;
    segment(packet, network, &tcp)
}

#[inline(always)]
fn segment<P: Packet>(packet: &P, network: &Network, tcp: &impl Header) -> Result<Segment, Counter> {
    let header = u32::from(tcp.byte::<12>() >> 4) * 4;
    let payload_at = network.transport_at + header;
    // A packet's own length is the truth (GSO, BIG TCP); only padding makes it longer than it is.
    let mut end = packet.len();
    if end <= ETHERNET_MIN + 4 * VLAN_TAGS && network.end != 0 && network.end < end {
        end = network.end;
    }
    if header < 20 || payload_at > end {
        return Err(Counter::Malformed);
    }
    Ok(Segment {
        source: network.source,
        destination: network.destination,
        source_port: tcp.short::<0>(),
        destination_port: tcp.short::<2>(),
        sequence: u32::from_be(tcp.word::<4>()),
        flags: tcp.byte::<13>(),
        payload_at,
        payload_len: end - payload_at,
    })
}

/// A packet in ordinary memory.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(pub &'a [u8]);

impl Packet for Frame<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn header<const N: usize>(&self, at: u32) -> Option<impl Header> {
        let at = at as usize;
        <[u8; N]>::try_from(self.0.get(at..at.checked_add(N)?)?).ok()
    }

    fn block(&self, at: u32, len: u32, into: &mut [u8; BLOCK]) -> bool {
        let (at, len) = (at as usize, len as usize);
        match (self.0.get(at..at.saturating_add(len)), into.get_mut(..len)) {
            (Some(from), Some(to)) => {
                to.copy_from_slice(from);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
