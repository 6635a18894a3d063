//! Owns the sending of TCP segments as they are built, whatever source address they bear.

use std::{
    fs,
    io::IoSlice,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, send, sendmsg,
        socket,
    },
    unistd::Pid,
};

use crate::{frames::Frame, node::Pod};

/// Length of an Ethernet header without tags.
const ETHERNET: usize = 14;
/// Where the source address of IPv4 stands in such a frame.
const SOURCE: usize = ETHERNET + 12;

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

    /// Puts frames on the pod's interface as they are, one after the other, all on one CPU: they arrive in this
    /// order.
    ///
    /// # Errors
    ///
    /// The kernel gives no packet socket, or does not send.
    pub fn send_frames(&self, frames: &[Vec<u8>]) -> Result<()> {
        self.netns().run(|| {
            let mut one = CpuSet::new();
            one.set(0)?;
            sched_setaffinity(Pid::from_raw(0), &one).context("stay on one CPU")?;
            let socket = packet_socket("eth0", None, SockFlag::empty())?;
            for (number, frame) in frames.iter().enumerate() {
                let sent = send(socket.as_raw_fd(), frame, MsgFlags::empty())
                    .with_context(|| format!("send frame {number} of {} bytes", frame.len()))?;
                ensure!(sent == frame.len(), "{sent} of {} bytes were sent", frame.len());
            }
            Ok(())
        })
    }

    /// Puts `frames` on the pod's interface once for each of `clients` addresses from `first` on, which takes
    /// the place of the source, as fast as the interface takes them. They are for nobody's Ethernet address:
    /// the host side shows them to its programs and then drops them. All of them arrive.
    ///
    /// # Errors
    ///
    /// A frame is not IPv4 without tags, the kernel gives no packet socket, or frames were lost.
    pub fn flood(&self, first: Ipv4Addr, clients: u32, frames: &[Frame]) -> Result<()> {
        let mut frames: Vec<Vec<u8>> = frames.iter().map(Frame::build).collect();
        self.netns().run(|| {
            let socket = packet_socket("eth0", None, SockFlag::empty())?;
            let before = dropped("eth0")?;
            let mut again = 0;
            for client in 0..clients {
                let source = Ipv4Addr::from_bits(u32::from(first) + client).octets();
                for frame in &mut frames {
                    let place = frame.get_mut(SOURCE..SOURCE + 4).context("the frame has no IPv4 header")?;
                    place.copy_from_slice(&source);
                    // The other side's queue may be full; the kernel says so.
                    while let Err(error) = send(socket.as_raw_fd(), frame, MsgFlags::empty()) {
                        if error != Errno::ENOBUFS {
                            bail!("send a frame: {error}");
                        }
                        again += 1;
                        thread::yield_now();
                    }
                }
            }
            let lost = dropped("eth0")? - before;
            ensure!(lost == again, "the interface lost {lost} frames and told of {again}");
            Ok(())
        })
    }
}

/// A socket for whole frames on an interface of the calling thread's network namespace. Without a protocol it
/// receives nothing, and the kernel reads the protocol of what is sent from the frame.
pub(crate) fn packet_socket(
    interface: &str,
    receives: Option<SockProtocol>,
    flags: SockFlag,
) -> Result<std::os::fd::OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, flags, receives).context("open a packet socket")?;
    let address = getifaddrs()
        .context("list the interfaces")?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface}"))?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("bind a socket to {interface}"))?;
    Ok(socket)
}

/// Frames that an interface of the calling thread's network namespace has not sent.
fn dropped(interface: &str) -> Result<u64> {
    /// Field of `/proc/net/dev`: eight of what was received come first, then bytes, packets, errors.
    const TRANSMIT_DROP: usize = 11;
    let table = fs::read_to_string("/proc/thread-self/net/dev").context("read the interfaces' counters")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    let field = line.and_then(|line| line.split_whitespace().nth(TRANSMIT_DROP)?.parse().ok());
    field.with_context(|| format!("no counters of {interface}"))
}
