//! Owns the rows of replay's speed, over a capture of mixed traffic that is made for it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use detector_tests::{
    daemon,
    frames::{ACK, FIN, Frame, PSH, SYN},
};

use crate::{
    Effort, payloads,
    report::{Row, Unit},
    stats::Figure,
};

pub(crate) fn speed(effort: Effort) -> Result<Vec<Row>> {
    let binary = daemon::binary()?;
    let known = Command::new(&binary).args(["replay", "--help"]).output().context("run plainsight")?;
    if !known.status.success() {
        eprintln!("    this build has no `plainsight replay`");
        return Ok(Vec::new());
    }
    let folder = tempfile::tempdir().context("make a folder")?;
    let file = folder.path().join("mixed.pcap");
    let packets = write(&file, effort.pick(2_000, 40_000))?;
    let size = fs::metadata(&file).context("look at the capture")?.len() as f64;
    let (mut replays, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(3, 9) {
        let start = Instant::now();
        let mut replay = Command::new(&binary);
        replay.arg("replay").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(replay.status().context("run plainsight")?.success(), "plainsight replay failed");
        replays.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let bytes = fs::read(&file).context("read the capture")?;
        reads.push(start.elapsed().as_secs_f64());
        ensure!(bytes.len() as f64 == size, "the capture has changed");
    }
    let megabytes = |seconds: &[f64]| Figure::of(seconds.iter().map(|took| size / 1e6 / took));
    Ok(vec![
        Row::new(
            "replay-packets",
            "replay of a capture of mixed traffic",
            Figure::of(replays.iter().map(|took| f64::from(packets) / took)),
            Unit::PerSecond,
        )
        .note(format!("{packets} packets")),
        Row::new("replay-bytes", "the same in bytes", megabytes(&replays), Unit::MegabytesPerSecond).beside(
            "reading the file",
            megabytes(&reads).value,
            Unit::MegabytesPerSecond,
        ),
    ])
}

/// Writes connections one after the other, half TLS and half plaintext; answers the number of packets.
fn write(path: &Path, connections: u32) -> Result<u32> {
    let mut file = BufWriter::new(File::create(path).context("make the capture")?);
    // Magic number, version 2.4, two zeros, the longest frame, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    let hello = payloads::client_hellos()?.short;
    let tls = [hello, payloads::server_hello(), payloads::record(1300), payloads::record(1300)];
    let http = [
        payloads::mcp_request(600),
        payloads::http_response(),
        payloads::http_request(),
        payloads::http_response(),
    ];
    let mut packets = 0;
    for number in 0..connections {
        let [_, _, high, low] = (number % 50_000).to_be_bytes();
        let client = (Ipv4Addr::new(10, 244, 3, low), 10_000 + u16::from(high) * 256 + u16::from(low));
        let server = (Ipv4Addr::new(10, 244, 1, 7), if number % 2 == 0 { 8443 } else { 8080 });
        let says = if number % 2 == 0 { &tls } else { &http };
        let mut sequences = [1000_u32, 5000];
        let mut send = |side: usize, flags: u8, payload: &[u8]| -> Result<()> {
            let (from, to) = if side == 0 { (client, server) } else { (server, client) };
            let [first, second] = &mut sequences;
            let (this, other) = if side == 0 { (first, second) } else { (second, first) };
            let frame = Frame::tcp4(from, to).flags(flags).seq(*this).ack(*other).payload(payload).build();
            *this += u32::try_from(payload.len())? + u32::from(flags & (SYN | FIN) != 0);
            let length = u32::try_from(frame.len())?;
            packets += 1;
            for word in [1_700_000_000 + packets / 10_000, packets % 10_000 * 100, length, length] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(&frame)?;
            Ok(())
        };
        send(0, SYN, &[])?;
        send(1, SYN | ACK, &[])?;
        send(0, ACK, &[])?;
        for (index, payload) in says.iter().enumerate() {
            send(index % 2, PSH | ACK, payload)?;
        }
        send(0, FIN | ACK, &[])?;
        send(1, FIN | ACK, &[])?;
        send(0, ACK, &[])?;
    }
    file.flush()?;
    Ok(packets)
}
