//! What passes with the daemon is, byte for byte, what passes without it: whole streams, and frames of every kind;
//! also where a neighbour drops some.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use detector_tests::{
    daemon::{self, Daemon},
    frames::{ACK, FIN, Frame, PSH, QINQ, RST, SYN, VLAN},
    neighbour::{self, Answer, Hook, Neighbour, Position},
    netns,
    node::{Node, Pod, PodSpec},
    sniffer::{Seen, Sniffer},
    wait,
};

use super::rig::NOTICED;

const PORT: u16 = 8000;
const LIMIT: Duration = Duration::from_secs(30);
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"text":""#;

/// Two pods on one bridge: what one sends arrives at the other as the same frame, or not at all.
struct Pair {
    folder: tempfile::TempDir,
    bpffs: detector_tests::bpffs::Bpffs,
    client: Pod,
    server: Pod,
    node: Node,
}

impl Pair {
    fn new() -> Self {
        let mut node = Node::bridged().unwrap();
        // With these, a bridge reads IP headers and drops what lies.
        node.netns().ip("link set cni0 type bridge mcast_snooping 0").unwrap();
        let off = |name: &str| {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
            if Path::new(&path).exists() { fs::write(path, "0") } else { Ok(()) }
        };
        node.netns().run(|| Ok((off("iptables")?, off("ip6tables")?))).unwrap();
        let server = node.pod(PodSpec::new("tools", "server")).unwrap();
        let client = node.pod(PodSpec::new("agents", "client")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        Self { folder, bpffs: detector_tests::bpffs::Bpffs::new().unwrap(), client, server, node }
    }

    fn daemon(&self) -> Daemon<'_> {
        let mut arguments = Daemon::arguments(self.folder.path());
        // It looks at every packet that it can, so that what it does to them would show.
        arguments.extend(["--scan-budget=100", "--sample-one-in=1"].map(Into::into));
        Daemon::start_with(&self.node, &daemon::binary().unwrap(), &arguments, None).unwrap()
    }
}

/// Bytes that repeat in no short distance.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// What a client sends, and in pieces of which size.
struct Stream {
    bytes: Vec<u8>,
    piece: usize,
    ipv6: bool,
}

fn streams() -> Vec<Stream> {
    let mcp = |length: usize| {
        let body = format!("{CALL}{}\"}}}}}}", "a".repeat(length));
        let head = format!("POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        (head + &body).into_bytes()
    };
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(1, 300_000)].concat();
    vec![
        Stream { bytes: noise(2, 1 << 20), piece: 1 << 16, ipv6: false },
        Stream { bytes: noise(3, 1 << 20), piece: 1 << 16, ipv6: true },
        Stream { bytes: mcp(200_000), piece: 10_000, ipv6: false },
        Stream { bytes: mcp(3_000), piece: 7, ipv6: true },
        Stream { bytes: mcp(10).repeat(20), piece: 1, ipv6: false },
        Stream { bytes: tls, piece: 5_000, ipv6: false },
        Stream { bytes: noise(4, 5_000), piece: 1, ipv6: false },
        Stream { bytes: Vec::new(), piece: 1, ipv6: false },
    ]
}

/// Sends every stream at once, and has each sent back.
fn exchange(pair: &Pair, streams: &[Stream]) {
    let listener = pair.server.netns().run(|| Ok(TcpListener::bind(("::", PORT))?)).unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _stream in streams {
                let (mut stream, _) = wait::until("a client", LIMIT, || Ok(listener.accept().ok())).unwrap();
                stream.set_nonblocking(false).unwrap();
                scope.spawn(move || {
                    let mut bytes = Vec::new();
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    stream.read_to_end(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                });
            }
        });
        for (number, wanted) in streams.iter().enumerate() {
            scope.spawn(move || {
                let ip = if wanted.ipv6 { pair.server.ipv6() } else { pair.server.ip() };
                let to = SocketAddr::new(ip, PORT);
                let mut stream = pair.client.netns().run(|| Ok(TcpStream::connect(to)?)).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                for piece in wanted.bytes.chunks(wanted.piece) {
                    stream.write_all(piece).unwrap();
                }
                stream.shutdown(Shutdown::Write).unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).unwrap();
                assert!(back == wanted.bytes, "stream {number} is another: {} bytes", back.len());
            });
        }
    });
}

/// Frames of one direction: what one end sent and what the other received, each sorted.
fn direction(sender: &[Seen], receiver: &[Seen]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let unicast = |seen: &&Seen| seen.frame[0] & 1 == 0;
    let frames = |seen: &[Seen], sent: bool| {
        let mut frames: Vec<Vec<u8>> = seen
            .iter()
            .filter(unicast)
            .filter(|seen| seen.sent == sent)
            .map(|seen| seen.frame.clone())
            .collect();
        frames.sort();
        frames
    };
    (frames(sender, true), frames(receiver, false))
}

#[test]
fn streams_pass_byte_for_byte_and_frame_for_frame() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    let streams = streams();
    let run = |what: &str| {
        let ends = [&pair.client, &pair.server];
        let [client, server] = ends.map(|pod| Sniffer::start(pod.netns(), "eth0").unwrap());
        exchange(&pair, &streams);
        // The last acknowledgements.
        thread::sleep(Duration::from_millis(300));
        let (client, server) = (client.take().unwrap(), server.take().unwrap());
        for (name, (sent, received)) in
            [("requests", direction(&client, &server)), ("answers", direction(&server, &client))]
        {
            assert!(sent.len() > 100, "{what}: {} frames", sent.len());
            let differing = sent.iter().zip(&received).position(|(sent, received)| sent != received);
            assert!(
                sent.len() == received.len() && differing.is_none(),
                "{what}, {name}: {} sent, {} received, the first that differs is {differing:?}",
                sent.len(),
                received.len()
            );
        }
        client.iter().map(|seen| seen.frame.len()).max().unwrap()
    };
    let without = run("without");
    assert!(without > 1514, "segmentation is left to the card: {without}");
    let daemon = pair.daemon();
    let with = run("with");
    assert!(with > 1514, "{with}");
    // And with segments of the size that a wire has.
    pair.client.netns().ip("link set eth0 gso_max_segs 1").unwrap();
    pair.server.netns().ip("link set eth0 gso_max_segs 1").unwrap();
    assert!(run("with, in frames of the wire's size") <= 1514);
    let scrape = daemon.scrape().unwrap();
    assert!(scrape.kernel("opened") >= 2 * streams.len() as u64, "it was there");
    daemon.stop().unwrap();
}

/// The Ethernet address that crafted frames are from.
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn crafted() -> Vec<Vec<u8>> {
    let four = |port: u16| Frame::tcp4(([10, 244, 1, 3].into(), port), ([10, 244, 1, 2].into(), PORT));
    let six = |port: u16| {
        let pod = |number| format!("fd00:10:244:1::{number}").parse().unwrap();
        Frame::tcp6((pod(3), port), (pod(2), PORT))
    };
    let mcp = format!("POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{CALL}");
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for flags in 0..=255_u8 {
        let payload = noise(flags.into(), usize::from(flags % 7));
        frames.push(four(1000 + u16::from(flags)).flags(flags).payload(&payload).build());
        frames.push(six(1000 + u16::from(flags)).flags(flags).payload(&payload).build());
    }
    for (port, base) in [(2000, four as fn(u16) -> Frame), (3000, six)] {
        let open = base(port).flags(SYN);
        let call = base(port).seq(2).flags(ACK | PSH).payload(&mcp);
        let end = base(port).seq(2 + u32::try_from(mcp.len()).unwrap());
        frames.extend([open, call, end.clone().flags(FIN | ACK), end.flags(RST)].map(|frame| frame.build()));
        for length in [0, 1, 11, 536, 1439, 1440] {
            frames.push(base(port + 1).payload(noise(7, length)).build());
        }
        let plain = || base(port + 2).payload(&mcp);
        frames.extend([
            plain().tag(VLAN, 7).build(),
            plain().tag(QINQ, 8).tag(VLAN, 9).build(),
            plain().tag(QINQ, 8).tag(QINQ, 9).tag(VLAN, 10).build(),
            plain().tcp_options(&[2, 4, 5, 180, 1, 3, 3, 7]).build(),
            plain().fragment(0, true).build(),
            plain().fragment(100, true).build(),
            plain().fragment(200, false).build(),
            plain().protocol(17).build(),
            plain().protocol(58).build(),
        ]);
        // Cut anywhere, and with lengths and checksums that lie.
        let whole = plain().build();
        frames.extend((15..120).map(|length| whole[..length].to_vec()));
        for place in 12..74 {
            let mut lie = whole.clone();
            lie[place] ^= 0xff;
            frames.push(lie);
        }
    }
    frames.push(four(4000).ip_options(&[7, 7, 4, 0, 0, 0, 0]).payload(&mcp).build());
    for kind in [0, 43, 60] {
        frames.push(six(4001).extension(kind, &[0; 6]).extension(60, &[1; 14]).payload(&mcp).build());
    }
    for seed in 0..64 {
        frames.push(
            [&[2, 0, 0, 0, 0, 2], &FROM[..], &noise(1000 + seed, 50 + usize::try_from(seed).unwrap())]
                .concat(),
        );
    }
    frames
}

/// The last frame, of a length that no neighbour drops.
fn last() -> Vec<u8> {
    let frame = [&[2, 0, 0, 0, 0, 2], &FROM[..], &[0x88, 0xb5], &[0x5a; 50]].concat();
    assert_eq!(frame.len() % 4, 0);
    frame
}

/// Sends the frames, and gives what of them arrived.
fn arrived(pair: &Pair, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let sniffer = Sniffer::start(pair.server.netns(), "eth0").unwrap();
    let last = last();
    pair.client.send_frames(&[frames, std::slice::from_ref(&last)].concat()).unwrap();
    let mut arrived: Vec<Vec<u8>> = Vec::new();
    wait::until("the last frame", LIMIT, || {
        let ours = sniffer.take()?.into_iter().map(|seen| seen.frame).filter(|frame| frame[6..12] == FROM);
        arrived.extend(ours);
        Ok((arrived.last() == Some(&last)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {} arrived", arrived.len()));
    arrived.pop();
    arrived
}

/// Where a neighbour is that drops a part of the frames.
#[derive(Clone, Copy, Debug)]
enum Dropping {
    Nobody,
    /// On the sender's interface by TCX, in front of whoever is there.
    Head,
    /// The same, behind.
    Tail,
    /// On the receiver's interface.
    Receiver,
    /// On the sender's interface, a filter of clsact.
    Filter,
}

/// What arrives, with a neighbour that drops.
fn arrived_past(
    pair: &Pair,
    frames: &[Vec<u8>],
    dropping: Dropping,
    daemon: Option<&Daemon<'_>>,
) -> Vec<Vec<u8>> {
    let neighbour = Neighbour::load(Answer::DropSome).unwrap();
    let (client, server) = (pair.client.plan().interface(), pair.server.plan().interface());
    let host = pair.node.netns();
    let attach = |interface: &str, hook, position| neighbour.attach(host, interface, hook, position).unwrap();
    let tc = |arguments: &str| {
        let mut command = host.command("tc");
        command.args(arguments.split(' '));
        pair.node.spawn("tc", command).unwrap().succeed(NOTICED).unwrap();
    };
    let (interface, hook, link) = match dropping {
        Dropping::Nobody => (&client, Hook::Ingress, None),
        Dropping::Head => (&client, Hook::Ingress, Some(attach(&client, Hook::Ingress, Position::Head))),
        Dropping::Tail => (&client, Hook::Ingress, Some(attach(&client, Hook::Ingress, Position::Tail))),
        Dropping::Receiver => (&server, Hook::Egress, Some(attach(&server, Hook::Egress, Position::Tail))),
        Dropping::Filter => {
            let path = pair.bpffs.pins().with_file_name(format!("dropping-{}", daemon.is_some()));
            neighbour.pin(&path).unwrap();
            tc(&format!("qdisc add dev {client} clsact"));
            let pinned = path.display();
            tc(&format!("filter add dev {client} ingress prio 1 handle 1 bpf da object-pinned {pinned}"));
            (&client, Hook::Ingress, None)
        }
    };
    if daemon.is_some() {
        wait::until("ours in front", 4 * NOTICED, || {
            let there = neighbour::attached(host, interface, hook)?;
            let ours = link.as_ref().map(|link| link.id()).transpose()? != Some(there[0].link);
            Ok((ours && there.len() == 1 + usize::from(link.is_some())).then_some(()))
        })
        .unwrap();
    }
    let arrived = arrived(pair, frames);
    drop(link);
    if let Dropping::Filter = dropping {
        tc(&format!("qdisc del dev {client} clsact"));
    }
    arrived
}

#[test]
fn frames_of_every_kind_have_the_fate_that_they_have_without_us() {
    if !netns::require_root() {
        return;
    }
    let pair = Pair::new();
    let frames = crafted();
    let cases = [Dropping::Nobody, Dropping::Head, Dropping::Tail, Dropping::Receiver, Dropping::Filter];
    let without = cases.map(|case| arrived_past(&pair, &frames, case, None));
    let mut expected = without[0].iter().peekable();
    let lost: Vec<usize> = (0..frames.len())
        .filter(|number| {
            let tag = if matches!(frames[*number][12..14], [0x81, 0] | [0x88, 0xa8]) { 4 } else { 0 };
            let same = |seen: &&&Vec<u8>| {
                seen.len() + tag == frames[*number].len() && seen[14..] == frames[*number][14 + tag..]
            };
            expected.next_if(|seen| same(&seen)).is_none()
        })
        .collect();
    assert_eq!(without[0].len(), frames.len(), "each arrives where nobody drops: {lost:?}");
    for (number, (sent, received)) in frames.iter().zip(&without[0]).enumerate() {
        let tagged = matches!(sent[12..14], [0x81, 0] | [0x88, 0xa8]);
        assert!(tagged || sent == received, "frame {number} is another:\n{sent:x?}\n{received:x?}");
    }
    for (case, received) in cases.iter().zip(&without).skip(1) {
        let dropped = frames.len() - received.len();
        assert!(dropped > 50 && received.len() > 500, "{case:?}: {dropped} dropped of {}", frames.len());
    }
    let daemon = pair.daemon();
    for (case, without) in cases.into_iter().zip(&without) {
        let seen = daemon.scrape().unwrap().kernel("opened");
        let with = arrived_past(&pair, &frames, case, Some(&daemon));
        let differing = with.iter().zip(without).position(|(with, without)| with != without);
        assert!(
            with.len() == without.len() && differing.is_none(),
            "{case:?}: {} arrive without the daemon, {} with it; the first that differs is {differing:?}",
            without.len(),
            with.len()
        );
        let opened = daemon.scrape().unwrap().kernel("opened") - seen;
        println!("{case:?}: {} of {} arrive, flows opened: {opened}", with.len(), frames.len());
    }
    assert!(daemon.scrape().unwrap().kernel("opened") > 50, "it was there");
    daemon.stop().unwrap();
}
