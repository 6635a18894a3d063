//! Plaintext MCP, one connection after the other, each counted by whom it was made.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread::{self, Scope},
    time::Duration,
};

use detector_tests::{
    node::{Node, Pod},
    wait,
};

const BODY: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}"#;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const LIMIT: Duration = Duration::from_secs(60);

/// Ends the traffic when a test ends, also by a panic: a scope waits for its threads.
#[must_use]
pub(crate) struct Ending<'a>(&'a Traffic);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.enough.store(true, Ordering::Relaxed);
    }
}

/// Connections that a pod makes to the node, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    made: AtomicU64,
    enough: AtomicBool,
    ended: AtomicBool,
}

impl Traffic {
    /// Starts a server on the node, so that a connection passes one interface alone, and a client in a pod.
    pub(crate) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        node: &'scope Node,
        pod: &'scope Pod,
        address: SocketAddr,
    ) -> Ending<'scope> {
        let listener = node.netns().run(|| Ok(TcpListener::bind(address)?)).unwrap();
        // It has no end of its own: a scope would wait for it.
        let _server = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                while !request.ends_with(BODY.as_bytes()) {
                    let length = stream.read(&mut piece).unwrap();
                    assert_ne!(length, 0);
                    request.extend_from_slice(&piece[..length]);
                }
                stream.write_all(ANSWER).unwrap();
            }
        });
        scope.spawn(move || {
            let run = || {
                while !self.enough.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(address)?;
                    let length = BODY.len();
                    write!(
                        stream,
                        "POST /mcp HTTP/1.1\r\nhost: node\r\ncontent-length: {length}\r\n\r\n{BODY}"
                    )?;
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer)?;
                    assert_eq!(answer, ANSWER);
                    self.made.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            };
            pod.netns().run(run).unwrap();
            self.ended.store(true, Ordering::Release);
        });
        Ending(self)
    }

    /// Waits until so many more connections were made.
    pub(crate) fn more(&self, connections: u64) {
        let wanted = self.made() + connections;
        wait::until("connections", LIMIT, || Ok((self.made() >= wanted).then_some(()))).unwrap();
    }

    /// Ends it, and gives the number of connections that were made.
    pub(crate) fn end(&self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        // The one that is under way counts too.
        wait::until("the last connection", LIMIT, || Ok(self.ended.load(Ordering::Acquire).then_some(())))
            .unwrap();
        self.made()
    }

    /// The number of connections that were made so far.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}
