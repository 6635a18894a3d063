//! Owns the view of every frame on one interface of a pod, as it stands on the wire.
//!
//! What was seen waits in the kernel until it is asked for, with room for far more than a test sends: a frame that
//! was lost there would look like one that did not pass.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::socket::{LinkAddr, SockFlag, SockProtocol, recvfrom, setsockopt, sockopt::RcvBufForce},
};

use crate::{netns::NetNs, raw::packet_socket};

/// `PACKET_OUTGOING`: sent by the interface's own side.
const OUTGOING: u8 = 4;
/// The largest frame with segmentation left to the card.
const LARGEST: usize = 1 << 17;
/// Room for what waits, in bytes.
const ROOM: usize = 256 << 20;

/// Frames that pass an interface, from the moment that this is made.
#[derive(Debug)]
pub struct Sniffer {
    socket: OwnedFd,
}

/// A frame that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether the interface's own side sent it.
    pub sent: bool,
    /// The frame. A VLAN tag that the kernel has taken off is not in it.
    pub frame: Vec<u8>,
}

impl Sniffer {
    /// Looks at an interface of a network namespace.
    ///
    /// # Errors
    ///
    /// The interface is not there, or not root.
    pub fn start(netns: &NetNs, interface: &str) -> Result<Self> {
        netns.run(|| {
            let socket = packet_socket(interface, Some(SockProtocol::EthAll), SockFlag::SOCK_NONBLOCK)?;
            setsockopt(&socket, RcvBufForce, &ROOM).context("make room for frames")?;
            Ok(Self { socket })
        })
    }

    /// Takes the frames that passed since the last time.
    ///
    /// # Errors
    ///
    /// The kernel does not give them.
    pub fn take(&self) -> Result<Vec<Seen>> {
        let (mut seen, mut frame) = (Vec::new(), vec![0; LARGEST]);
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
                Ok((length, from)) => {
                    let sent = from.is_some_and(|from| from.pkttype() == OUTGOING);
                    let frame = frame.get(..length).unwrap_or_default().to_vec();
                    seen.push(Seen { sent, frame });
                }
                Err(Errno::EAGAIN) => return Ok(seen),
                Err(error) => bail!("receive a frame: {error}"),
            }
        }
    }
}
