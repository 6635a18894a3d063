//! Owns the traffic: two pods on a node of network namespaces, and what they say to each other.
//!
//! Sockets belong to the namespace of the thread that opens them; servers are opened there and served from
//! plain threads, clients run inside.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use detector_tests::node::{Node, Pod, PodSpec};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use crate::machine;

/// Two pods and their node.
pub(crate) struct Pair {
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    pub(crate) node: Node,
}

/// What the two sides say.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    /// Said once, after the connection is open: the client's part and the server's.
    pub(crate) greeting: (Vec<u8>, Vec<u8>),
    /// Said again and again.
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// Exchanges, connections or bytes a second.
    pub(crate) wall: f64,
    /// The same a second of CPU time of both sides, kernel included: other programs do not count.
    pub(crate) cpu: f64,
}

impl Pair {
    pub(crate) fn new() -> Result<Self> {
        let mut node = Node::new()?;
        let server = node.pod(PodSpec::new("bench", "server").service_account("server"))?;
        let client = node.pod(PodSpec::new("bench", "client").service_account("client"))?;
        Ok(Self { client, server, node })
    }

    /// Opens a server's port and gives each connection to `serve`, one after the other.
    ///
    /// The thread ends with the process: it may be waiting for a client that never comes.
    pub(crate) fn serve(
        &self,
        port: u16,
        mut serve: impl FnMut(TcpStream) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let address = SocketAddr::new(self.server.ip(), port);
        let listener = self
            .server
            .netns()
            .run(|| TcpListener::bind(address).with_context(|| format!("listen on {address}")))?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that ends early is the client's error.
                let _ended = stream.and_then(&mut serve);
            }
        });
        Ok(())
    }

    /// Serves exchanges on one connection at a time until the client closes.
    pub(crate) fn serve_talk(&self, port: u16, talk: &Talk) -> Result<()> {
        let Talk { greeting: (hello, answer), request, response } = talk.clone();
        self.serve(port, move |mut stream| {
            stream.set_nodelay(true)?;
            if !hello.is_empty() {
                stream.read_exact(&mut vec![0; hello.len()])?;
                stream.write_all(&answer)?;
            }
            let mut room = vec![0; request.len()];
            while stream.read_exact(&mut room).is_ok() {
                stream.write_all(&response)?;
            }
            Ok(())
        })
    }

    /// Serves one exchange a connection, and closes first.
    pub(crate) fn serve_once(&self, port: u16, request: usize, response: Vec<u8>) -> Result<()> {
        self.serve(port, move |mut stream| {
            stream.set_nodelay(true)?;
            stream.read_exact(&mut vec![0; request])?;
            stream.write_all(&response)
        })
    }

    /// Takes all that comes.
    pub(crate) fn serve_sink(&self, port: u16) -> Result<()> {
        self.serve(port, |mut stream| {
            let mut room = vec![0; 256 * 1024];
            while stream.read(&mut room)? > 0 {}
            Ok(())
        })
    }

    /// Runs exchanges on a new connection for some time.
    pub(crate) fn exchanges(&self, port: u16, talk: &Talk, lasting: Duration) -> Result<Rate> {
        let address = SocketAddr::new(self.server.ip(), port);
        self.client.netns().run(|| {
            let mut stream = connect(address)?;
            let Talk { greeting: (hello, answer), request, response } = talk;
            if !hello.is_empty() {
                stream.write_all(hello)?;
                stream.read_exact(&mut vec![0; answer.len()])?;
            }
            let mut room = vec![0; response.len()];
            rate(lasting, || {
                stream.write_all(request)?;
                stream.read_exact(&mut room)?;
                Ok(1)
            })
        })
    }

    /// Opens connections for one exchange each, for some time.
    pub(crate) fn connections(&self, port: u16, request: &[u8], lasting: Duration) -> Result<Rate> {
        let address = SocketAddr::new(self.server.ip(), port);
        self.client.netns().run(|| {
            let mut room = vec![0; 4096];
            rate(lasting, || {
                once(address, request, &mut room)?;
                Ok(1)
            })
        })
    }

    /// Sends as much as goes through, for some time.
    pub(crate) fn bulk(&self, port: u16, talk: &Talk, lasting: Duration) -> Result<Rate> {
        let address = SocketAddr::new(self.server.ip(), port);
        self.client.netns().run(|| {
            let mut stream = connect(address)?;
            stream.write_all(&talk.greeting.0)?;
            rate(lasting, || {
                stream.write_all(&talk.request)?;
                Ok(talk.request.len() as u64)
            })
        })
    }

    /// Opens connections at a steady pace, each to the next of `ports`; answers how many a second it was.
    pub(crate) fn storm(
        &self,
        ports: &[(u16, Vec<u8>)],
        per_second: u32,
        lasting: Duration,
        threads: u32,
        during: impl FnOnce() -> Result<()>,
    ) -> Result<f64> {
        let ip = self.server.ip();
        let opened = Arc::new(AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        let start = Instant::now();
        let pace = Duration::from_secs(1) * threads / per_second;
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                self.client.netns().run(|| {
                    thread::scope(|scope| {
                        let workers: Vec<_> = (0..threads)
                            .map(|worker| {
                                let (opened, stop) = (&opened, &stop);
                                scope.spawn(move || -> Result<()> {
                                    let mut room = vec![0; 4096];
                                    let own = ports.iter().cycle().skip(worker as usize * 7);
                                    for (number, (port, request)) in own.enumerate() {
                                        if stop.load(Ordering::Relaxed) {
                                            break;
                                        }
                                        let due = pace * u32::try_from(number)?;
                                        if let Some(early) = due.checked_sub(start.elapsed()) {
                                            thread::sleep(early);
                                        }
                                        once(SocketAddr::new(ip, *port), request, &mut room)?;
                                        opened.fetch_add(1, Ordering::Relaxed);
                                    }
                                    Ok(())
                                })
                            })
                            .collect();
                        for worker in workers {
                            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                        }
                        Ok(())
                    })
                })
            });
            // Until everything has settled down.
            thread::sleep(lasting / 3);
            let (before, since) = (opened.load(Ordering::Relaxed), Instant::now());
            let during = during();
            let count = opened.load(Ordering::Relaxed) - before;
            let rate = count as f64 / since.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            during.map(|()| rate)
        })
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection with one exchange. The server closes; the reset that answers it leaves no port behind that
/// would have to wait.
fn once(address: SocketAddr, request: &[u8], room: &mut [u8]) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(request)?;
    loop {
        match stream.read(room) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).context("read the answer"),
        }
    }
    let abort = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &abort).context("set SO_LINGER")
}

/// Repeats `work` for some time; it answers how much it did.
fn rate(lasting: Duration, mut work: impl FnMut() -> Result<u64>) -> Result<Rate> {
    let (start, cpu) = (Instant::now(), machine::process_time()?);
    let mut done = 0;
    while start.elapsed() < lasting {
        // The clock costs something too.
        for _ in 0..16 {
            done += work()?;
        }
    }
    let cpu = machine::process_time()?.saturating_sub(cpu);
    let done = done as f64;
    Ok(Rate { wall: done / start.elapsed().as_secs_f64(), cpu: done / cpu.as_secs_f64() })
}
