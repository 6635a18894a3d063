//! What the process gives up after the start: tried by what must fail, and by the daemon as it runs.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use detector::{
    datapath::{Datapath, DatapathConfig},
    sandbox::{self, Needs},
};
use detector_tests::{
    daemon::{self, ADMIN, Daemon},
    netns,
    node::{Node, PodSpec},
    wait,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::Pid,
};

const LIMIT: Duration = Duration::from_secs(20);

fn config() -> DatapathConfig {
    DatapathConfig {
        max_flows: 64,
        max_edges: 64,
        sample_one_in: 1024,
        budget_ns_per_ms: 20_000,
        scan_window: 4096,
        idle: Duration::from_secs(300),
        statistics: false,
    }
}

/// A field of `/proc/…/status`.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(['\t', ' ']).next().unwrap().to_owned()
}

#[test]
fn what_a_hijacked_daemon_would_try_is_refused() {
    if !netns::require_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (given, other) = (folder.path().join("given"), folder.path().join("other"));
    for path in [&given, &other] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), "x").unwrap();
    }
    let needs = Needs { reads: vec![given.join("file")], listen: 9464, ..Needs::default() };
    // A sandbox is a thread's; those of the other tests are without it.
    let inside = move || {
        let datapath = Datapath::load(&config()).unwrap();
        let parent = Pid::parent();
        let sandbox = sandbox::enter(&needs);
        assert!(sandbox.is_whole(), "{sandbox}");
        let kept = ["CAP_BPF", "CAP_NET_ADMIN"].map(str::to_owned);
        assert_eq!(sandbox.capabilities.as_deref(), Ok(&kept[..]));

        // What it still does.
        assert_eq!(datapath.expire().unwrap(), 0);
        assert_eq!(datapath.edges().unwrap(), []);
        datapath.counters().unwrap();
        fs::write(given.join("file"), "y").unwrap_err();
        assert_eq!(fs::read_to_string(given.join("file")).unwrap(), "x");
        fs::read_to_string("/proc/self/status").unwrap();

        // What it must not.
        denied("run a program", Command::new("/bin/true").status());
        denied("read the shadow file", File::open("/etc/shadow"));
        denied("read what was not given", File::open(other.join("file")));
        denied("read another process", fs::read_to_string("/proc/1/environ"));
        denied("write a file", fs::write(given.join("new"), "x"));
        denied("write a kernel option", fs::write("/proc/sys/kernel/hostname", "x"));
        denied("load a program", Datapath::load(&config()).map_err(io::Error::other));
        denied("listen on another port", TcpListener::bind("127.0.0.1:9"));
        denied("listen on an unprivileged port", TcpListener::bind("127.0.0.1:19464"));
        denied("mount", mount(None::<&Path>, "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&Path>));
        denied("read another's memory", File::open(format!("/proc/{parent}/mem")));
        denied("signal another process", kill(parent, Signal::SIGUSR1));
        denied("enter a namespace", unshare(CloneFlags::CLONE_NEWNS));
        let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None);
        denied("read all packets", raw);
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "CapBnd"), field(&status, "CapEff"));
    };
    thread::spawn(inside).join().unwrap();
}

fn denied<T, E: std::fmt::Debug>(what: &str, result: Result<T, E>) {
    if let Err(error) = result {
        println!("{what}: {error:?}");
    } else {
        panic!("it could {what}");
    }
}

#[test]
fn every_thread_of_the_daemon_has_given_up_what_it_does_not_need() {
    if !netns::require_root() {
        return;
    }
    let mut node = Node::new().unwrap();
    let _pod = node.pod(PodSpec::new("agents", "client")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let late = node.plan(PodSpec::new("agents", "late")).unwrap();
    let daemon = Daemon::start(&node, &daemon::binary().unwrap(), folder.path(), None).unwrap();
    let threads: Vec<String> = fs::read_dir(format!("/proc/{}/task", daemon.id()))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path().join("status")).unwrap())
        .collect();
    assert!(threads.len() >= 4, "{}", threads.len());
    let kept = format!("{:016x}", (1_u64 << 12) | (1 << 39));
    for status in &threads {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(field(status, set), kept, "{status}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(status, set), "0000000000000000", "{status}");
        }
        assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("1".into(), "2".into()));
    }
    // It still sees interfaces that come later, and reads its manifests again.
    let late = node.start(&late).unwrap();
    node.manifests(folder.path(), "").unwrap();
    let observed = late.id();
    wait::until("coverage of the later pod", LIMIT, || {
        Ok(daemon
            .readiness()?
            .lines()
            .any(|line| line.contains(&observed) && line.contains("observed"))
            .then_some(()))
    })
    .unwrap();
    let log = daemon.stop().unwrap();
    assert!(log.contains("sandbox: no new privileges"), "{log}");
}

#[test]
fn without_the_sandbox_it_says_so_and_keeps_everything() {
    if !netns::require_root() {
        return;
    }
    let node = Node::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let mut arguments = Daemon::arguments(folder.path());
    arguments.push("--no-sandbox".into());
    let daemon = Daemon::start_with(&node, &daemon::binary().unwrap(), &arguments, None).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    assert_eq!((field(&status, "NoNewPrivs"), field(&status, "Seccomp")), ("0".into(), "0".into()));
    assert!(daemon.stop().unwrap().contains("keeps all its privileges"));
}

#[test]
fn the_admin_port_changes_nothing_for_whoever_has_no_credentials() {
    if !netns::require_root() {
        return;
    }
    let node = Node::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let daemon = Daemon::start(&node, &daemon::binary().unwrap(), folder.path(), None).unwrap();
    let paths = [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/v1/node",
        "/api/v1/flows",
        "/api/v1/log",
        "/log-level",
    ];
    for path in paths {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW"] {
            let mut stream = node.netns().run(|| Ok(TcpStream::connect(ADMIN)?)).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let head = format!("{method} {path} HTTP/1.1\r\nhost: {ADMIN}\r\nconnection: close\r\n");
            stream.write_all(format!("{head}content-length: 5\r\n\r\ntrace").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
            assert!([400, 401, 403, 404, 405].contains(&status), "{method} {path}: {answer}");
        }
    }
    daemon.stop().unwrap();
}
