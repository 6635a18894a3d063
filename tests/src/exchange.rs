//! Owns connections by the hundred: a server and clients over real sockets, small enough that a soak can open
//! many a second. What is said is what the SDKs say, without them.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{self, shutdown};

use crate::{netns::NetNs, node::Pod};

const LIMIT: Duration = Duration::from_secs(20);

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"3"}]}}"#;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// It calls a tool.
    Mcp,
    /// It asks for a page.
    Http,
    /// Bytes that nobody knows.
    Unknown,
    /// Nothing: it connects and goes.
    Silent,
}

impl Talk {
    fn request(self, to: SocketAddr) -> Vec<u8> {
        match self {
            Self::Mcp => format!(
                "POST /mcp HTTP/1.1\r\nHost: {to}\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{CALL}",
                CALL.len()
            )
            .into_bytes(),
            Self::Http => format!("GET /healthz HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes(),
            Self::Unknown => vec![0xee; 64],
            Self::Silent => Vec::new(),
        }
    }
}

/// A server that answers each request; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in a pod, on both families.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn start(pod: &Pod, port: u16) -> Result<Self> {
        Self::listen(pod.netns(), port)
    }

    /// Listens in a network namespace, on both families.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn listen(netns: &NetNs, port: u16) -> Result<Self> {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let listener = netns.run(|| TcpListener::bind(any).with_context(|| format!("listen on {any}")))?;
        let accepting = listener.try_clone().context("share the listener")?;
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                // A client that goes in the middle is no matter here.
                thread::spawn(move || drop(answer(stream)));
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What waits in `accept` is woken by it.
        let _not_listening = shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = [0; 2048];
    loop {
        let length = stream.read(&mut request)?;
        let request = request.get(..length).unwrap_or_default();
        if request.is_empty() {
            return Ok(());
        }
        let (kind, body) = match request {
            [b'P', ..] => ("application/json", RESULT),
            [b'G', ..] => ("text/plain", "ok"),
            unknown => {
                stream.write_all(unknown)?;
                continue;
            }
        };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}

impl Pod {
    /// Whether a connection comes about within `limit`; it says nothing.
    ///
    /// # Errors
    ///
    /// The pod's namespace cannot be entered.
    pub fn attempt(&self, to: SocketAddr, limit: Duration) -> Result<bool> {
        self.netns().run(|| Ok(TcpStream::connect_timeout(&to, limit).is_ok()))
    }

    /// Makes `times` connections one after the other, each with one exchange, and ends each in good order.
    ///
    /// # Errors
    ///
    /// One was refused, or not answered.
    pub fn talk(&self, to: SocketAddr, talk: Talk, times: u32) -> Result<()> {
        let request = talk.request(to);
        self.netns()
            .run(|| {
                for _ in 0..times {
                    let mut stream = TcpStream::connect_timeout(&to, LIMIT).context("connect")?;
                    stream.set_read_timeout(Some(LIMIT))?;
                    let mut answer = [0; 2048];
                    if !request.is_empty() {
                        stream.write_all(&request)?;
                        ensure!(stream.read(&mut answer)? > 0, "the server closed without an answer");
                    }
                    stream.shutdown(Shutdown::Write)?;
                    while stream.read(&mut answer)? > 0 {}
                }
                Ok(())
            })
            .with_context(|| format!("{} speaks to {to}", self.id()))
    }
}
