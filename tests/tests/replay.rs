//! `plainsight replay` as a user meets it: the program, on files and on standard input.
//!
//! What each capture holds stands beside it, in a file that was written from the packets and not from the
//! program's output. A difference is a mistake of the classifier until the packets say otherwise.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use detector_tests::{
    daemon,
    frames::{self, Frame},
    pcap,
    record::Record,
};

/// A finding of the severity of `--fail-on`.
const FOUND: i32 = 2;
const FAILED: i32 = 1;
const USAGE: i32 = 64;

fn plainsight(arguments: &[&str]) -> Command {
    let mut command = Command::new(daemon::binary().unwrap());
    command.arg("replay").args(arguments).stdin(Stdio::null());
    command
}

fn capture(name: &str) -> String {
    pcap::folder().join(name).into_os_string().into_string().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it wrote, which must end with `status`.
fn run(arguments: &[&str], status: i32) -> Output {
    let output = plainsight(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output.stderr));
    output
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have seen enough and be gone.
    let _closed = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// A flow as the files beside the captures have it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    what: String,
    counts: String,
    evidence: BTreeSet<String>,
    methods: BTreeSet<String>,
}

/// Reads what a capture holds: a line that names the flow, and indented lines for the rest.
fn expected(path: &Path) -> Vec<Flow> {
    let mut flows: Vec<Flow> = Vec::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(detail) = line.strip_prefix("  ") else {
            let (counts, evidence, methods) = (String::new(), BTreeSet::new(), BTreeSet::new());
            flows.push(Flow { what: line.to_owned(), counts, evidence, methods });
            continue;
        };
        let flow = flows.last_mut().unwrap();
        let (kind, rest) = detail.split_once(' ').unwrap_or((detail, ""));
        let words = rest.split_whitespace().map(str::to_owned);
        match kind {
            "connections" => flow.counts = detail.to_owned(),
            "evidence" => flow.evidence.extend(words),
            "methods" => flow.methods.extend(words),
            other => panic!("{}: {other}", path.display()),
        }
    }
    flows.sort();
    flows
}

/// The flows that the program told.
fn told(stdout: &[u8]) -> Vec<Flow> {
    let count = |record: &Record, name: &str| record.line[name].as_u64().unwrap();
    let set = |record: &Record, name| record.list(name).into_iter().map(str::to_owned).collect();
    let mut flows: Vec<Flow> = text(stdout)
        .lines()
        .map(|line| Record::read(line).unwrap())
        .filter(Record::is_flow)
        .map(|record| Flow {
            what: format!(
                "{} -> {}:{} {} {}",
                record.client.other,
                record.server.other,
                record.port,
                record.text("verdict"),
                record.text("protocol")
            ),
            counts: format!(
                "connections {}, with credentials {}, answered {}, refused {}",
                count(&record, "count"),
                count(&record, "with_credentials"),
                count(&record, "answered"),
                count(&record, "refused")
            ),
            evidence: set(&record, "evidence"),
            methods: set(&record, "methods"),
        })
        .collect();
    flows.sort();
    flows
}

fn captures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = pcap::folder()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_capture_holds_what_stands_beside_it() {
    let captures = captures();
    assert!(captures.len() >= 11);
    let mut wrong = Vec::new();
    for path in captures {
        let output = run(&["--json", path.to_str().unwrap()], 0);
        let (expected, told) = (expected(&path.with_extension("flows")), told(&output.stdout));
        if expected != told {
            wrong.push(format!("{}:\nexpected {expected:#?}\ntold {told:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_tls_clients_name_is_told_with_their_flow() {
    let name = "outbound_.8443_._.mcp.ns.svc.cluster.local";
    let hellos = capture("tls-clienthellos.pcap");
    let Output { stdout, .. } = run(&["--json", &hellos], 0);
    let told = text(&stdout);
    let named = told.lines().map(|line| Record::read(line).unwrap()).filter(|record| {
        record.is_flow() && record.port == 8443 && record.line["sni"][0].as_str() == Some(name)
    });
    assert_eq!(named.count(), 1);
    let Output { stdout, .. } = run(&[&hellos], 0);
    assert!(text(&stdout).contains(&format!("SNI {name}; ALPN istio\n")), "{}", text(&stdout));
}

#[test]
fn standard_input_and_pcapng_say_the_same_as_the_file() {
    for path in captures() {
        let path = path.to_str().unwrap();
        let whole = run(&["--json", path], 0).stdout;
        let bytes = fs::read(path).unwrap();
        let streamed = with_input(plainsight(&["--json", "-"]), &bytes);
        assert_eq!((streamed.status.code(), text(&streamed.stdout)), (Some(0), text(&whole)), "{path}");
        let newer = with_input(plainsight(&["--json", "-"]), &pcapng(&pcap::read(path).unwrap()));
        assert_eq!((newer.status.code(), text(&newer.stdout)), (Some(0), text(&whole)), "{path} as pcapng");
    }
}

/// A big-endian pcapng of one Ethernet interface, its times in nanoseconds.
fn pcapng(frames: &[pcap::Captured]) -> Vec<u8> {
    let block = |kind: u32, words: &[u32], data: &[u8]| {
        let mut body: Vec<u8> = words.iter().copied().flat_map(u32::to_be_bytes).collect();
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).unwrap().to_be_bytes();
        [&kind.to_be_bytes()[..], &length, &body, &length].concat()
    };
    let mut file = block(0x0a0d_0d0a, &[0x1a2b_3c4d, 1 << 16, u32::MAX, u32::MAX], &[]);
    // Ethernet, no limit of length, and the option `if_tsresol` of 10^-9.
    file.extend(block(1, &[1 << 16, 0, 9 << 16 | 1, 9 << 24], &[]));
    for pcap::Captured { at, frame } in frames {
        let time = u64::try_from(at.as_nanos()).unwrap();
        let len = u32::try_from(frame.len()).unwrap();
        file.extend(block(6, &[0, (time >> 32) as u32, (time & 0xffff_ffff) as u32, len, len], frame));
    }
    file
}

#[test]
fn the_status_says_what_was_found() {
    // High, for no credentials are in it.
    let mcp = capture("py2-streamable.pcap");
    for (limit, status) in [("critical", 0), ("high", FOUND), ("medium", FOUND), ("info", FOUND)] {
        for json in [&["--json"][..], &[]] {
            run(&[&["--fail-on", limit, &mcp], json].concat(), status);
        }
    }
    run(&["--fail-on", "critical", &capture("py2-big.pcap")], FOUND);
    let tls = capture("tls-clienthellos.pcap");
    run(&["--fail-on", "info", &tls], 0);
    run(&[&tls], 0);
}

#[test]
fn wrong_usage_and_files_that_cannot_be_read_are_told_apart() {
    for arguments in [
        &[][..],
        &["--fail-on", "worst", "x"],
        &["x", "--scan-window", "1"],
        &["x", "--trust-domain", "A B"],
        &["x", "y"],
    ] {
        assert!(text(&run(arguments, USAGE).stderr).starts_with("error: "), "{arguments:?}");
    }
    let mcp = capture("py2-streamable.pcap");
    for (arguments, said) in [
        (&["/nonexistent.pcap"][..], "error: /nonexistent.pcap: open: "),
        (&["/"], "error: /: a folder"),
        (&[&mcp, "--manifests", "/nonexistent"], "error: /nonexistent: cannot be read: "),
        (&["/dev/null"], "error: /dev/null: the capture is empty"),
        (&[&capture("README.md")], "neither pcap nor pcapng"),
    ] {
        let output = run(arguments, FAILED);
        let error = text(&output.stderr);
        assert!(error.contains(said), "{arguments:?}: {error}");
        // A table of nothing would say that there are no findings.
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stdout));
    }
    // A name of its own for what has none; and whoever reads JSON gets a summary all the same.
    let nothing: [(&[u8], &str); 3] = [
        (b"", "error: standard input: the capture is empty"),
        (b"\x1f\x8b\x08\0", "error: standard input: compressed with gzip: pipe it through `gzip -dc"),
        (b"BZh9", "error: standard input: compressed with bzip2: pipe it through `bzip2 -dc"),
    ];
    for (input, said) in nothing {
        let output = with_input(plainsight(&["-"]), input);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(FAILED), 0));
        assert!(text(&output.stderr).starts_with(said), "{}", text(&output.stderr));
        let output = with_input(plainsight(&["--json", "-"]), input);
        assert_eq!(output.status.code(), Some(FAILED));
        let summary = Record::read(text(&output.stdout).trim()).unwrap();
        let error = summary.text("error");
        assert!(!error.is_empty() && text(&output.stderr).contains(error), "{said}: {error}");
    }
}

#[test]
fn a_broken_capture_is_reported_as_far_as_it_goes() {
    let whole = fs::read(pcap::folder().join("py2-streamable.pcap")).unwrap();
    // Within the last record; nothing but its FIN is lost.
    let cut = &whole[..whole.len() - 30];
    let mut corrupt = whole.clone();
    // A record that claims to be longer than any.
    corrupt.extend([0xff; 16]);
    let record = whole.len() - 16 - 66;
    for (file, at, complaint) in
        [(cut, record, "ends within the record"), (&corrupt, whole.len(), "is corrupt")]
    {
        let output = with_input(plainsight(&["--json", "--fail-on", "critical", "-"]), file);
        assert_eq!(output.status.code(), Some(FAILED));
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(told(&output.stdout), expected(&pcap::folder().join("py2-streamable.flows")));
        for told in [stderr, stdout] {
            assert!(
                told.contains(&format!("at byte {at}: the capture")) && told.contains(complaint),
                "{told}"
            );
        }
        let table = with_input(plainsight(&["-"]), file);
        assert_eq!(table.status.code(), Some(FAILED));
        assert!(text(&table.stdout).contains("not read to its end"));
    }
}

#[test]
fn manifests_give_identities_and_findings_of_policy() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("cluster.yaml");
    fs::write(&manifest, MANIFESTS).unwrap();
    let manifest = manifest.to_str().unwrap();
    for name in ["clusterip-client-hostveth.pcap", "clusterip-server-hostveth.pcap"] {
        let output = run(&["--json", "--fail-on", "high", "--manifests", manifest, &capture(name)], FOUND);
        let records: Vec<Record> =
            text(&output.stdout).lines().map(|line| Record::read(line).unwrap()).collect();
        let flow = records.iter().find(|record| record.is_flow()).unwrap();
        assert_eq!(
            (flow.client.name(), flow.server.name(), flow.port),
            ("mcp/rogue", "mcp/tools", 8055),
            "{name}"
        );
        let found: Vec<&str> =
            records.iter().filter(|record| record.is_finding()).map(|record| record.text("id")).collect();
        assert_eq!(found, ["plaintext-mcp", "unexpected-source"], "{name}");
    }
    // One bad document costs itself and nothing else.
    fs::write(manifest, format!("{MANIFESTS}\n---\nkind: [")).unwrap();
    let output = run(&["--manifests", manifest, &capture("py2-streamable.pcap")], 0);
    assert!(text(&output.stderr).starts_with("warning: "), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("mcp/rogue"));
}

const MANIFESTS: &str = "\
apiVersion: v1
kind: Pod
metadata: {namespace: mcp, name: tools, uid: a, labels: {app: tools}}
spec: {serviceAccountName: tools, containers: [{name: c}]}
status: {podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: mcp, name: rogue, uid: b}
spec: {serviceAccountName: rogue, containers: [{name: c}]}
status: {podIPs: [{ip: 10.244.1.3}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: mcp, name: tools}
spec: {clusterIP: 10.96.0.10, selector: {app: tools}, ports: [{port: 80, targetPort: 8055}]}
---
apiVersion: plainsight.dev/v1alpha1
kind: ExpectedSources
metadata: {namespace: mcp, name: tools}
spec: {selector: {matchLabels: {app: tools}}, serviceAccounts: [{namespace: mcp, name: gateway}]}
";

#[test]
fn nothing_of_a_payload_is_written() {
    let logins = [
        "redis-auth",
        "xmpp",
        "ldap",
        "imap",
        "pop3",
        "ftp-login",
        "smtp-auth",
        "mqtt-password",
        "nats-password",
    ];
    let names = ["py2-big", "py1-streamable", "postgresql-password", "amqp"];
    for name in names.into_iter().chain(logins).map(|name| format!("{name}.pcap")) {
        for format in [&["--json"][..], &[]] {
            let output = run(&[format, &[&capture(&name)]].concat(), 0);
            let written = text(&output.stdout) + &text(&output.stderr);
            for secret in [
                "made-up",
                "AGFwcA",
                "guest",
                "aaaa",
                "xxxx",
                "066960d8130245aa884141c7eda50e89",
                "Add two numbers",
            ] {
                assert!(!written.contains(secret), "{name}: {secret}");
            }
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = plainsight(&["--json", &capture("py2-streamable.pcap")]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Needs no privileges: what it reads is all that it needs.
#[test]
fn memory_is_flat_over_a_capture_of_any_size() {
    const BYTES: usize = 200 << 20;
    /// Measured: 18 MiB in a debug build.
    const LIMIT_KIB: u64 = 40 << 10;
    let mut child =
        plainsight(&["--json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut written = 0;
    let mut connections = 0;
    input.write_all(&HEAD).unwrap();
    while written < BYTES {
        let records = Connection(connections).records();
        input.write_all(&records).unwrap();
        written += records.len();
        connections += 1;
    }
    // All but a pipe's content is read by now.
    let peak = peak_kib(&child);
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines: Vec<Record> = text(&output.stdout).lines().map(|line| Record::read(line).unwrap()).collect();
    let counted: u64 =
        lines.iter().filter(|line| line.is_flow()).map(|line| line.line["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, connections, "{connections} connections");
    assert_eq!(lines.last().unwrap().line["losses"], serde_json::json!({}));
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

/// The head of a pcap file: little-endian, microseconds, Ethernet.
const HEAD: [u8; 24] = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];

/// A generated connection. They come every ten milliseconds; of ten, one is TLS and one never ends.
struct Connection(u64);

impl Connection {
    const CLIENTS: u64 = 200;

    fn records(&self) -> Vec<u8> {
        let Self(number) = *self;
        let [.., a, b] = (number % Self::CLIENTS).to_be_bytes();
        let port = u16::try_from(20_000 + number / Self::CLIENTS % 40_000).unwrap();
        let (client, server) = ((Ipv4Addr::new(10, 244, a, b), port), (Ipv4Addr::new(10, 245, 0, 1), 8000));
        let mut records = Vec::new();
        let mut record = |frame: Frame| {
            let frame = frame.build();
            let len = u32::try_from(frame.len()).unwrap();
            let (seconds, part) = (number / 100, number % 100);
            let words = [u32::try_from(seconds).unwrap(), u32::try_from(part).unwrap() * 10_000, len, len];
            records.extend(words.into_iter().flat_map(u32::to_le_bytes));
            records.extend(frame);
        };
        let from_client = Frame::tcp4(client, server);
        let from_server = Frame::tcp4(server, client);
        let (request, answer) = if number % 10 == 0 {
            (b"\x15\x03\x03\x00\x02\x02\x28".to_vec(), [&b"\x17\x03\x03\x04\x00"[..], &[7; 1024]].concat())
        } else {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1400\r\n\r\n";
            (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), [&head[..], &[b'x'; 1400]].concat())
        };
        let sent = u32::try_from(request.len()).unwrap();
        let answered = u32::try_from(answer.len()).unwrap();
        record(from_client.clone().flags(frames::SYN).seq(1));
        record(from_server.clone().flags(frames::SYN | frames::ACK).seq(1));
        record(from_client.clone().seq(2).payload(request));
        record(from_server.clone().seq(2).payload(answer));
        if number % 10 != 1 {
            record(from_client.flags(frames::FIN | frames::ACK).seq(2 + sent));
            record(from_server.flags(frames::FIN | frames::ACK).seq(2 + answered));
        }
        records
    }
}

/// The most memory that the program had so far.
fn peak_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn a_pipe_that_has_a_name_is_read_as_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let bytes = fs::read(pcap::folder().join("py2-streamable.pcap")).unwrap();
    let child = plainsight(&["--json", path.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    File::options().write(true).open(&path).unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(told(&output.stdout), expected(&pcap::folder().join("py2-streamable.flows")));
}
