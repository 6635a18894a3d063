use super::{ACK, FIN, Frame, PSH, QINQ, SYN, VLAN, checksum};
use crate::pcap;
use std::net::{Ipv4Addr, Ipv6Addr};

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 1, 3), 40000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 1, 2), 8000);
const CLIENT6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3), 40000);
const SERVER6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), 8000);

#[test]
fn checksums_of_a_built_ipv4_frame_add_up_to_nothing() {
    let frame = Frame::tcp4(CLIENT, SERVER).flags(SYN).payload("odd").tcp_options(&[2, 4, 5, 180]).build();
    assert_eq!(frame.len(), 14 + 20 + 24 + 3);
    assert_eq!(checksum(&[], &frame[14..34]), 0);
    let pseudo = [&frame[26..34], &[0, 6, 0, 27]].concat();
    assert_eq!(checksum(&pseudo, &frame[34..]), 0);
}

#[test]
fn a_frame_of_a_capture_is_built_again_byte_for_byte() {
    let captured = pcap::read("py2-streamable.pcap").unwrap();
    let syn = captured.into_iter().find(|captured| captured.frame[47] == SYN).unwrap().frame;
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&syn[at..at + 4]).unwrap());
    let port = |at: usize| u16::from_be_bytes([syn[at], syn[at + 1]]);
    let built = Frame::tcp4((address(26), port(34)), (address(30), port(36)))
        .flags(SYN)
        .seq(u32::from_be_bytes(syn[38..42].try_into().unwrap()))
        .ack(0)
        .tcp_options(&syn[54..])
        .build();
    // MAC addresses, identification with its checksum, hop limit, window and the checksums over them
    // are the sender's own.
    for range in [12..18, 20..22, 23..24, 26..48, 52..syn.len()] {
        assert_eq!(built[range.clone()], syn[range.clone()], "bytes {range:?}");
    }
}

#[test]
fn tags_stand_between_the_addresses_and_the_ethertype() {
    let frame = Frame::tcp4(CLIENT, SERVER).tag(QINQ, 7).tag(VLAN, 9).build();
    assert_eq!(frame[12..22], [0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0]);
}

#[test]
fn ipv4_options_lengthen_the_header() {
    let frame = Frame::tcp4(CLIENT, SERVER).ip_options(&[148, 4, 0, 0, 1]).build();
    assert_eq!(frame[14], 0x47);
    assert_eq!(frame[34..42], [148, 4, 0, 0, 1, 0, 0, 0]);
    assert_eq!(checksum(&[], &frame[14..42]), 0);
}

#[test]
fn extension_headers_are_chained_and_the_fragment_header_is_last() {
    let frame = Frame::tcp6(CLIENT6, SERVER6)
        .flags(FIN | ACK | PSH)
        .extension(0, &[1, 4])
        .extension(60, &[1, 12])
        .fragment(0, true)
        .payload("x")
        .build();
    assert_eq!(frame[20], 0, "hop-by-hop follows the IPv6 header");
    assert_eq!(frame[18..20], (8 + 8 + 8 + 20 + 1_u16).to_be_bytes());
    assert_eq!(frame[54..56], [60, 0]);
    assert_eq!(frame[62..64], [44, 0]);
    assert_eq!(frame[70..74], [6, 0, 0, 1]);
    assert_eq!(frame[78..80], CLIENT6.1.to_be_bytes());
}

#[test]
fn a_fragment_of_ipv4_says_where_it_belongs() {
    let frame = Frame::tcp4(CLIENT, SERVER).fragment(3, true).build();
    assert_eq!(frame[20..22], [0x20, 3]);
}
