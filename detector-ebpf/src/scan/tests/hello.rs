//! Hellos, made field by field.

use std::{string::ToString as _, vec, vec::Vec};

use super::*;
use crate::tls::{Alpn, Version};

fn sized(width: usize, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    [&length[length.len() - width..], body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(2, body)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &sized(2, &[&[0][..], &sized(2, name.as_bytes())].concat()))
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| sized(1, name.as_bytes())).collect();
    extension(16, &sized(2, &list))
}

fn versions(versions: &[u16]) -> Vec<u8> {
    let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    extension(43, &sized(1, &list))
}

fn key_share() -> Vec<u8> {
    extension(51, &[7; 1258])
}

fn record(kind: u8, legacy: u16, body: &[u8]) -> Vec<u8> {
    let hello = [&legacy.to_be_bytes()[..], &[0xaa; 32], body].concat();
    let handshake = [&[kind][..], &sized(3, &hello)].concat();
    [&[0x16, 3, 1][..], &sized(2, &handshake)].concat()
}

fn client(legacy: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = sized(1, &[0xbb; 32]);
    body.extend(sized(2, &[0x13, 1, 0x13, 2, 0xc0, 0x2f]));
    body.extend(sized(1, &[0]));
    if !extensions.is_empty() {
        body.extend(sized(2, &extensions.concat()));
    }
    record(1, legacy, &body)
}

fn server(legacy: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = sized(1, &[0xbb; 32]);
    body.extend([0x13, 1, 0]);
    body.extend(sized(2, &extensions.concat()));
    record(2, legacy, &body)
}

fn names(work: &Work) -> (Vec<u8>, Vec<Vec<u8>>) {
    (work.record.hello.server_name().to_vec(), work.record.hello.protocols().map(<[u8]>::to_vec).collect())
}

/// A hello and what it must say: ALPN class, version class, name, protocols.
type Wanted = (Vec<u8>, Alpn, Version, &'static str, Vec<&'static str>);

fn hellos() -> Vec<Wanted> {
    let istio = "outbound_.8080_._.mcp.ns.svc.cluster.local";
    let linkerd = "tools.mcp.serviceaccount.identity.linkerd.cluster.local";
    let envoy = ["istio-http/1.1", "istio", "http/1.1"];
    let both = versions(&[0x0304, 0x0303]);
    vec![
        (
            client(0x0303, &[server_name(istio), alpn(&envoy), both.clone()]),
            Alpn::Istio,
            Version::Tls13,
            istio,
            envoy.to_vec(),
        ),
        (
            client(
                0x0303,
                &[both.clone(), key_share(), alpn(&["transport.l5d.io/v1"]), server_name(linkerd)],
            ),
            Alpn::Linkerd,
            Version::Tls13,
            linkerd,
            vec!["transport.l5d.io/v1"],
        ),
        (
            client(0x0303, &[key_share(), server_name(linkerd), both.clone()]),
            Alpn::LinkerdName,
            Version::Tls13,
            linkerd,
            vec![],
        ),
        (client(0x0303, &[alpn(&["h2"]), both]), Alpn::Other, Version::Tls13, "", vec!["h2"]),
        (
            client(0x0303, &[server_name("istio.example.com"), alpn(&["http/1.1"])]),
            Alpn::Other,
            Version::Tls12,
            "istio.example.com",
            vec!["http/1.1"],
        ),
        (
            client(0x0303, &[server_name("xserviceaccount.identity.example")]),
            Alpn::None,
            Version::Tls12,
            "xserviceaccount.identity.example",
            vec![],
        ),
        (client(0x0301, &[]), Alpn::None, Version::Weak, "", vec![]),
        (client(0x0303, &[alpn(&["kuma"])]), Alpn::Kuma, Version::Tls12, "", vec!["kuma"]),
    ]
}

#[test]
fn a_hello_says_who_made_it_whole_and_split_at_any_byte() {
    for (hello, class, version, name, protocols) in hellos() {
        let wanted_names = (
            name.as_bytes().to_vec(),
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect::<Vec<_>>(),
        );
        let mut hash = None;
        for end in 0..hello.len() {
            let (shown, work) = read_to_end(&hello, &[end]);
            let evidence = Evidence(work.side.evidence);
            assert_eq!(Alpn::of(evidence, 443), class, "{name} split at {end}: {shown:?}");
            assert_eq!(Version::offered(evidence), version, "{name} split at {end}: {shown:?}");
            assert_eq!(names(&work), wanted_names, "{name} split at {end}");
            assert_eq!(*hash.get_or_insert(work.side.hash), work.side.hash, "{name} split at {end}");
            assert_eq!(work.side.hash != 0, !name.is_empty());
            let bare = class == Alpn::None && name.is_empty();
            assert_eq!(shown.phase, if bare { Phase::Hello } else { Phase::Tls } as u8, "{name} at {end}");
        }
        let ends: Vec<usize> = (1..hello.len()).collect();
        assert_eq!(names(&read_to_end(&hello, &ends).1), wanted_names);
    }
}

/// The same handshake in records of at most `size` bytes each.
fn fragmented(hello: &[u8], size: usize) -> Vec<u8> {
    let (head, handshake) = hello.split_at(5);
    handshake.chunks(size).flat_map(|piece| [&head[..3], &sized(2, piece)].concat()).collect()
}

#[test]
fn a_hello_says_the_same_over_records_of_any_size() {
    for (hello, class, version, name, protocols) in hellos() {
        let whole = read_to_end(&hello, &[]).1;
        for size in (6..90).chain([128, 255, 256, 512]) {
            let stream = fragmented(&hello, size);
            let step = if size % 16 == 7 { 1 } else { 97 };
            for end in (0..stream.len()).step_by(step) {
                let (_, work) = read_to_end(&stream, &[end]);
                let evidence = Evidence(work.side.evidence);
                assert_eq!(Alpn::of(evidence, 443), class, "{name} by {size}, split at {end}");
                assert_eq!(Version::offered(evidence), version, "{name} by {size}, split at {end}");
                assert_eq!(names(&work), names(&whole), "{name} by {size}, split at {end}");
                assert_eq!(work.side.hash, whole.side.hash, "{name} by {size}, split at {end}");
            }
        }
        assert_eq!(names(&whole).1, protocols.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_no_record_of_the_handshake_ends_a_hello() {
    let (hello, ..) = hellos().swap_remove(0);
    let mut stream = fragmented(&hello, 60);
    for (at, byte) in [(65, 0x17), (68, 0), (65, 0x15)] {
        let before = stream[at];
        stream[at] = byte;
        if at == 68 {
            stream[69] = 0;
        }
        let (shown, work) = read_to_end(&stream, &[]);
        assert_eq!((shown.phase, work.hello_is_whole), (Phase::Tls as u8, 0), "{byte} at {at}");
        stream[at] = before;
        stream[69] = 60;
    }
    // A first record of less than the version is TLS all the same, or nothing that is known.
    for size in 1..6 {
        let shown = read(&fragmented(&hello, size), &[]);
        let known = shown.phase == Phase::Tls as u8 && shown.evidence.is_empty();
        assert!(known || shown.phase == Phase::Opaque as u8, "{size}: {shown:?}");
    }
}

#[test]
fn a_server_says_which_version_it_chose() {
    let chose = |hello: &[u8]| Evidence(read_to_end(hello, &[]).1.side.evidence);
    assert!(chose(&server(0x0303, &[extension(43, &[3, 4]), key_share()])).any(Evidence::CHOSE_TLS13));
    assert!(!chose(&server(0x0303, &[extension(43, &[3, 4])])).any(Evidence::CHOSE_TLS12));
    assert!(chose(&server(0x0303, &[extension(0, &[])])).any(Evidence::CHOSE_TLS12));
    assert!(chose(&server(0x0302, &[extension(0, &[])])).any(Evidence::CHOSE_WEAK));
    for end in 0..60 {
        let shown = read(&server(0x0303, &[extension(43, &[3, 4])]), &[end]);
        assert_eq!(shown.evidence, ["chose-tls1.3"], "split at {end}");
    }
}

#[test]
fn a_name_of_any_length_is_kept_to_its_limit() {
    for length in [1, 63, 64, 127, 128, 253, 255, 256, 300, 2000] {
        let name = "n".repeat(length);
        let (_, work) = read_to_end(&client(0x0303, &[server_name(&name), alpn(&["istio"])]), &[]);
        assert_eq!(work.record.hello.server_name().len(), length.min(255));
        assert!(Evidence(work.side.evidence).any(Evidence::ALPN_ISTIO), "{length}");
    }
    let many: Vec<String> = (0..30).map(|index| index.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (_, work) = read_to_end(&client(0x0303, &[alpn(&many), server_name("a.b")]), &[]);
    assert_eq!(work.record.hello.alpn_len, 64);
    assert_eq!(work.record.hello.server_name(), b"a.b");
}

proptest! {
    #[test]
    fn a_hello_with_any_byte_changed_is_still_taken_whole(index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>()) {
        let hellos = hellos();
        let mut hello = index.get(&hellos).0.clone();
        let at = at.index(hello.len());
        hello[at] = byte;
        let end = end.index(hello.len());
        let whole = read_to_end(&hello, &[]);
        let split = read_to_end(&hello, &[end]);
        prop_assert_eq!(&whole.0, &split.0);
        prop_assert_eq!(names(&whole.1), names(&split.1));
    }
}
