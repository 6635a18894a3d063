//! Owns what stands before the IP header: every link type is turned into an Ethernet frame, which is what the
//! tracker walks.

/// A link type that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Ethernet, with so many bytes of frame check sequence behind it.
    Ethernet {
        /// Bytes of the frame check sequence.
        fcs: usize,
    },
    /// `LINKTYPE_LINUX_SLL`: what `-i any` gave, and still does with older tools.
    Cooked,
    /// `LINKTYPE_LINUX_SLL2`.
    Cooked2,
    /// An IP packet and nothing else: tunnels.
    Ip,
}

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Length of a cooked header; its last two bytes are the protocol, as an Ethernet header's are.
const COOKED: usize = 16;
/// Length of a cooked header of version 2; its first two bytes are the protocol.
const COOKED2: usize = 20;
/// A cooked header's packet type: sent by the machine that captured it.
const OUTGOING: u16 = 4;

impl Link {
    /// The link type of a number of the registry <https://www.tcpdump.org/linktypes.html>.
    pub(super) const fn of(code: u32, fcs: usize) -> Option<Self> {
        match code {
            1 => Some(Self::Ethernet { fcs }),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            // The numbers that `DLT_RAW` has on different systems, and those of either version alone.
            12 | 14 | 101 | 228 | 229 => Some(Self::Ip),
            _ => None,
        }
    }

    /// The packet as an Ethernet frame, built in `scratch` where it is none; an empty one where its link
    /// header is cut short.
    pub(super) fn frame<'a>(
        self,
        packet: &'a [u8],
        original_len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        match self {
            Self::Ethernet { fcs: 0 } => packet,
            Self::Ethernet { fcs } => {
                // A frame that was snapped has lost the sequence first.
                let end = original_len.saturating_sub(fcs).min(packet.len());
                packet.get(..end).unwrap_or(packet)
            }
            Self::Cooked => {
                packet.get(COOKED - ETHERNET..).filter(|frame| frame.len() >= ETHERNET).unwrap_or_default()
            }
            Self::Cooked2 => match packet.split_at_checked(COOKED2) {
                Some(([high, low, ..], ip)) => synthetic([*high, *low], ip, scratch),
                _ => &[],
            },
            Self::Ip => match packet.first().map(|first| first >> 4) {
                Some(4) => synthetic([0x08, 0x00], packet, scratch),
                Some(6) => synthetic([0x86, 0xdd], packet, scratch),
                Some(_) => synthetic([0, 0], packet, scratch),
                None => &[],
            },
        }
    }

    /// Whether the machine that captured the packet received it, where the link header says so.
    pub(super) fn received(self, packet: &[u8]) -> Option<bool> {
        let kind = match self {
            Self::Ethernet { .. } | Self::Ip => return None,
            Self::Cooked => u16::from_be_bytes(*packet.first_chunk()?),
            Self::Cooked2 => u16::from(*packet.get(10)?),
        };
        (kind <= OUTGOING).then_some(kind != OUTGOING)
    }
}

fn synthetic<'a>(ethertype: [u8; 2], ip: &[u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    scratch.clear();
    scratch.resize(ETHERNET - ethertype.len(), 0);
    scratch.extend_from_slice(&ethertype);
    scratch.extend_from_slice(ip);
    scratch
}

#[cfg(test)]
mod tests {
    use super::Link;

    const IPV4: [u8; 3] = [0x45, 0, 0];

    fn frame(code: u32, packet: &[u8]) -> Vec<u8> {
        Link::of(code, 0).unwrap().frame(packet, packet.len(), &mut vec![1; 99]).to_vec()
    }

    fn ethernet(ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
        [&[0; 12], &ethertype[..], payload].concat()
    }

    #[test]
    fn every_link_type_becomes_an_ethernet_frame() {
        let expected = ethernet([0x08, 0x00], &IPV4);
        assert_eq!(frame(1, &expected), expected);
        for raw in [12, 14, 101, 228] {
            assert_eq!(frame(raw, &IPV4), expected);
        }
        assert_eq!(frame(229, &[0x60, 1]), ethernet([0x86, 0xdd], &[0x60, 1]));
        assert_eq!(frame(113, &[&[0; 14][..], &[0x08, 0x00], &IPV4].concat()), expected);
        assert_eq!(frame(276, &[&[0x08, 0x00][..], &[0; 18], &IPV4].concat()), expected);
        assert_eq!(Link::of(105, 0), None);
    }

    #[test]
    fn a_link_header_that_is_cut_short_is_an_empty_frame() {
        for (code, len) in [(113, 15), (276, 19), (101, 0)] {
            assert_eq!(frame(code, &vec![0x45; len]), Vec::<u8>::new(), "{code}");
        }
        // What is neither version 4 nor 6 is no IP.
        assert_eq!(frame(101, &[0x15]), ethernet([0, 0], &[0x15]));
    }

    #[test]
    fn a_frame_check_sequence_is_no_payload() {
        let packet = [7; 64];
        let link = Link::of(1, 4).unwrap();
        assert_eq!(link.frame(&packet, 64, &mut Vec::new()).len(), 60);
        assert_eq!(link.frame(&packet, 66, &mut Vec::new()).len(), 62, "snapped within it");
        assert_eq!(link.frame(&packet, 1500, &mut Vec::new()).len(), 64, "snapped before it");
    }

    #[test]
    fn cooked_headers_say_which_way_a_packet_went() {
        for (kind, received) in [(0, Some(true)), (3, Some(true)), (4, Some(false)), (9, None)] {
            assert_eq!(Link::Cooked.received(&[0, kind]), received);
            let mut header = [0; 20];
            header[10] = kind;
            assert_eq!(Link::Cooked2.received(&header), received);
        }
        assert_eq!(Link::Ethernet { fcs: 0 }.received(&[0; 64]), None);
    }
}
