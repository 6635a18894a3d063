//! What the process gives up after the start: tried by what must fail, and by the daemon as it runs.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "sandbox/raw.rs"]
mod raw;

use std::{
    backtrace::Backtrace,
    collections::BTreeMap,
    env::consts::ARCH,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    sync::LazyLock,
    thread,
    time::Duration,
};

use detector::{
    admin,
    datapath::{Datapath, DatapathConfig, HookChoice},
    preflight,
    sandbox::{self, Needs, Sandbox},
};
use detector_tests::{
    daemon::{self, ADMIN, Daemon},
    netns,
    node::{Node, PodSpec},
    wait,
};
use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::Pid,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

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
        hooks: HookChoice::Best,
    }
}

/// Read before a sandbox is entered.
static KERNEL: LazyLock<Option<(u32, u32)>> = LazyLock::new(preflight::kernel);

/// The capabilities that are documented to stay, by name and number.
fn kept() -> Vec<(&'static str, u32)> {
    if KERNEL.unwrap() >= (5, 19) {
        vec![("CAP_NET_ADMIN", 12)]
    } else {
        vec![("CAP_BPF", 39), ("CAP_NET_ADMIN", 12)]
    }
}

/// The same, as `/proc/…/status` has it.
fn kept_bits() -> String {
    format!("{:016x}", kept().iter().fold(0_u64, |all, (_, bit)| all | (1 << bit)))
}

/// Landlock's version, read before a sandbox is entered.
static LANDLOCK: LazyLock<libc::c_long> = LazyLock::new(raw::landlock);

/// Landlock's first version, and the one that knows TCP ports.
const FILES: libc::c_long = 1;
const PORTS: libc::c_long = 4;

/// Asserts that everything closed that this kernel has a lock for, and that the rest is told.
fn assert_closed(sandbox: &Sandbox) {
    assert!(sandbox.privileges.is_ok() && sandbox.calls.is_ok(), "{sandbox}");
    let names: Vec<String> = kept().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(sandbox.capabilities.as_deref(), Ok(&names[..]));
    let (ports, signals) = ("TCP ports (Linux 6.7)", "signals and abstract sockets (Linux 6.12)");
    let open = match *LANDLOCK {
        0 => {
            assert!(sandbox.files.as_ref().is_err_and(|why| why.starts_with("no Landlock")), "{sandbox}");
            return;
        }
        1..4 => vec![ports, signals],
        4..6 => vec![signals],
        _ => Vec::new(),
    };
    assert_eq!(sandbox.is_whole(), open.is_empty(), "{sandbox}");
    assert_eq!(sandbox.files, Ok(open), "{sandbox}");
}

/// Whether this kernel's Landlock has what a version has; what cannot be tried is said.
fn landlock_has(version: libc::c_long, what: &str) -> bool {
    let has = *LANDLOCK >= version;
    if !has {
        println!(
            "skipped: {what}: this kernel's Landlock is of version {}, and it takes {version}",
            *LANDLOCK
        );
    }
    has
}

fn needs() -> Needs {
    Needs { listen: 9464, kernel: *KERNEL, ..Needs::default() }
}

/// A field of `/proc/…/status`.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(['\t', ' ']).next().unwrap().to_owned()
}

fn assert_given_up(status: &str) {
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(status, set), kept_bits(), "{status}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(status, set), "0000000000000000", "{status}");
    }
    assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("1".into(), "2".into()));
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    TcpStream::connect(there).unwrap();
    let needs = Needs { reads: vec![given.join("file")], ..needs() };
    let (files, ports) = (landlock_has(FILES, "files"), landlock_has(PORTS, "TCP ports"));
    // A sandbox is a thread's; those of the other tests are without it.
    let inside = move || {
        let datapath = Datapath::load(&config()).unwrap();
        let parent = Pid::parent();
        let sandbox = sandbox::enter(&needs);
        assert_closed(&sandbox);
        assert_given_up(&fs::read_to_string("/proc/thread-self/status").unwrap());

        // What it still does.
        assert_eq!(datapath.expire().unwrap(), 0);
        assert_eq!(datapath.edges().unwrap(), []);
        datapath.counters().unwrap();
        datapath.runs().unwrap();
        assert_eq!(fs::read_to_string(given.join("file")).unwrap(), "x");
        let panicked = thread::spawn(|| -> () { panic!("as expected") }).join();
        assert!(panicked.is_err());
        let trace = Backtrace::force_capture().to_string();
        assert!(trace.contains("what_a_hijacked_daemon"), "{trace}");

        // What it must not.
        denied("run a program", Command::new("/bin/true").status());
        denied("read another process", fs::read_to_string("/proc/1/environ"));
        denied("load a program", Datapath::load(&config()).map_err(io::Error::other));
        denied("listen on another port", TcpListener::bind("127.0.0.1:9"));
        if files {
            denied("read the shadow file", File::open("/etc/shadow"));
            denied("read what was not given", File::open(other.join("file")));
            denied("write what was given to be read", fs::write(given.join("file"), "y"));
            denied("write a file", fs::write(given.join("new"), "x"));
            denied("remove a file", fs::remove_file(given.join("file")));
            denied("make a folder", fs::create_dir(given.join("new")));
            denied("write a kernel option", fs::write("/proc/sys/kernel/hostname", "x"));
        }
        if ports {
            denied("listen on an unprivileged port", TcpListener::bind("127.0.0.1:19464"));
            denied("connect", TcpStream::connect(there));
        }
        denied("mount", mount(None::<&Path>, "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&Path>));
        denied("read another's memory", File::open(format!("/proc/{parent}/mem")));
        denied("signal another process", kill(parent, Signal::SIGUSR1));
        denied("enter a namespace", unshare(CloneFlags::CLONE_NEWNS));
        for family in [AddressFamily::Packet, AddressFamily::Vsock] {
            denied("open a raw socket", socket(family, SockType::Raw, SockFlag::empty(), None));
        }
        denied("send raw IP", socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), None));
        for (name, number) in raw::REFUSED {
            assert_eq!(raw::call(*number, [0; 6]), Err(Errno::EPERM), "{name}");
        }
        for (name, command) in raw::BPF {
            assert_eq!(raw::call(libc::SYS_bpf, [*command, 0, 0, 0, 0, 0]), Err(Errno::EPERM), "{name}");
        }
        // Code that is written at run time. Memory without it is given.
        let memory = |protection: libc::c_int| {
            let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into();
            raw::call(libc::SYS_mmap, [0, 4096, protection.into(), flags, -1, 0])
        };
        memory(libc::PROT_READ | libc::PROT_WRITE).unwrap();
        assert_eq!(memory(libc::PROT_READ | libc::PROT_EXEC), Err(Errno::EPERM));
        let ours = memory(libc::PROT_READ).unwrap();
        let execute = [ours, 4096, (libc::PROT_READ | libc::PROT_EXEC).into(), 0, 0, 0];
        assert_eq!(raw::call(libc::SYS_mprotect, execute), Err(Errno::EPERM));
        // A process of its own; a thread is made with other flags.
        assert_eq!(raw::call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]), Err(Errno::EPERM));
        assert_eq!(raw::call(libc::SYS_clone3, [0; 6]), Err(Errno::ENOSYS));
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
fn a_daemon_that_watches_a_cluster_may_connect() {
    if !netns::require_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let inside = move || {
        LazyLock::force(&KERNEL);
        LazyLock::force(&LANDLOCK);
        let sandbox = sandbox::enter(&Needs { connects: true, ..needs() });
        assert_closed(&sandbox);
        TcpStream::connect(there).unwrap();
        // To resolve names.
        UdpSocket::bind("127.0.0.1:0").unwrap();
    };
    thread::spawn(inside).join().unwrap();
}

/// Has system calls fail in this thread, and in what it starts, as on a kernel that has them not.
fn without(calls: &[libc::c_long]) {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let missing = SeccompAction::Errno(Errno::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, ARCH.try_into().unwrap()).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[test]
fn without_landlock_it_says_so_once_and_goes_on() {
    if !netns::require_root() {
        return;
    }
    let inside = || {
        let node = Node::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        node.manifests(folder.path(), "").unwrap();
        without(&[libc::SYS_landlock_create_ruleset]);
        let daemon = Daemon::start(&node, &daemon::binary().unwrap(), folder.path(), None).unwrap();
        let said = "all files (no Landlock: ";
        let readiness = daemon.readiness().unwrap();
        let line = readiness.lines().find(|line| line.starts_with("sandbox")).unwrap();
        assert!(line.contains(said), "{readiness}");
        // The rest is as ever.
        assert_given_up(&fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap());
        let log = daemon.stop().unwrap();
        assert_eq!(log.matches(said).count(), 1, "{log}");
        assert!(log.contains("WARN") && log.contains("sandbox, not whole"), "{log}");
    };
    thread::spawn(inside).join().unwrap();
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
    threads.iter().for_each(|status| assert_given_up(status));
    // It still sees interfaces that come later, reads its manifests again, and knows its own memory.
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
    assert!(daemon.metrics().unwrap().contains("\nprocess_resident_memory_bytes "));
    let names: Vec<&str> = kept().iter().map(|(name, _)| *name).collect();
    let files = if *LANDLOCK == 0 { "all files (no Landlock: " } else { "files closed off" };
    let said = format!("no new privileges, capabilities {}, {files}", names.join(" "));
    let readiness = daemon.readiness().unwrap();
    assert!(
        readiness.lines().any(|line| line.starts_with("sandbox ") && line.contains(&said)),
        "{readiness}"
    );
    let log = daemon.stop().unwrap();
    assert_eq!(log.matches(&said).count(), 1, "{log}");
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

/// What an answer's first line says.
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// One request over a connection of its own, from the node's loopback.
fn ask(node: &Node, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = node.netns().run(|| Ok(TcpStream::connect(ADMIN)?)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {ADMIN}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// With authentication it is `admin_tls.rs` that tries.
#[test]
fn the_admin_port_changes_nothing_where_nobody_can_authenticate() {
    if !netns::require_root() {
        return;
    }
    let node = Node::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    node.manifests(folder.path(), "").unwrap();
    let daemon = Daemon::start(&node, &daemon::binary().unwrap(), folder.path(), None).unwrap();
    let filter = || {
        let answer = ask(&node, "GET", "/api/v1/log-filter", "", "");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    assert_eq!(filter(), "info\n");
    let paths = admin::paths();
    assert!(paths.len() >= 9 && paths.contains(&"/api/v1/log-filter".to_owned()), "{paths:?}");
    let unknown = ["/nothing", "/api/v1/nothing", "/api/v2/log-filter", "/api/v1/log-filter/"];
    for path in paths.iter().map(String::as_str).chain(unknown) {
        // Methods that are registered and may change something, and one that is not.
        for method in [
            "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "MKCOL", "MOVE", "COPY", "LOCK",
            "BREW",
        ] {
            for headers in ["", "authorization: Bearer \r\n", "x-http-method-override: PUT\r\n"] {
                let answer = ask(&node, method, path, headers, "trace");
                assert!(
                    [400, 403, 404, 405].contains(&status(&answer)),
                    "{method} {path} {headers}: {answer}"
                );
            }
        }
        // Methods that read change nothing, whatever they bring.
        for method in ["GET", "HEAD"] {
            let _read = ask(&node, method, path, "", "trace");
        }
    }
    assert_eq!(filter(), "info\n");
    daemon.stop().unwrap();
}
