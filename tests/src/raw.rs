//! Owns the sending of TCP segments as they are built, whatever source address they bear.

use std::{io::IoSlice, net::SocketAddr, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendmsg, socket,
};

use crate::{frames::Frame, node::Pod};

/// Length of an Ethernet header without tags.
const ETHERNET: usize = 14;

impl Pod {
    /// Sends packets from inside the pod to `destination`, past the pod's own TCP: nothing answers for them.
    ///
    /// # Errors
    ///
    /// The kernel gives no raw socket, or does not send.
    pub fn send_raw(&self, destination: SocketAddr, frames: &[Frame]) -> Result<()> {
        self.netns().run(|| {
            let family = if destination.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            // Of protocol `IPPROTO_RAW`, the caller writes the IP header.
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
                .context("open a raw socket")?;
            // The port of a raw socket's address is no port; the kernel wants none for IPv6.
            let to = SockaddrStorage::from(SocketAddr::new(destination.ip(), 0));
            for frame in frames {
                let frame = frame.build();
                let packet = frame.get(ETHERNET..).context("a frame is longer than its header")?;
                let sent =
                    sendmsg(socket.as_raw_fd(), &[IoSlice::new(packet)], &[], MsgFlags::empty(), Some(&to))
                        .with_context(|| format!("send a packet to {destination}"))?;
                ensure!(sent == packet.len(), "{sent} of {} bytes were sent", packet.len());
            }
            Ok(())
        })
    }
}
