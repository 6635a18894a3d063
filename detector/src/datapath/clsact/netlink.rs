//! Owns the requests of clsact: qdiscs and filters of an interface, in the calling thread's network namespace.
//!
//! What another program has put on a hook may have attributes that are not known here: it is still one filter,
//! in its place.

use std::io;

use nix::libc;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer,
        NetlinkMessage, Parseable as _,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{
            TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
        },
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

const CLSACT: &str = "clsact";
/// Every protocol, as `tcm_info` has it: in the order of the network (`ETH_P_ALL` of linux/if_ether.h).
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;
/// The chain that packets begin with; others are reached by a jump.
const FIRST_CHAIN: u32 = 0;
/// `NLMSG_HDRLEN` of linux/netlink.h.
const HEADER: usize = 16;

/// The most that the kernel puts into one message of a list (`netlink_dump` in net/netlink/af_netlink.c).
const MOST_AT_ONCE: usize = 32 * 1024;

/// A socket for one request after the other, all in the network namespace of the thread that made it.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A hook of clsact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Ingress,
    Egress,
}

/// A filter of a hook, or a priority as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// What it matches by.
    pub(super) kind: String,
    /// The number of its program, if it is one of BPF.
    pub(super) program: Option<u32>,
    /// Its name, if it is one of BPF.
    pub(super) name: String,
    /// What the kernel knows it by; zero for a priority as a whole.
    pub(super) handle: u32,
    /// Priority and protocol.
    info: u32,
}

impl Hook {
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    const fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => TcHandle::MIN_INGRESS,
            Self::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: TcHandle::CLSACT.major, minor }
    }
}

impl Filter {
    pub(super) const fn priority(&self) -> u16 {
        (self.info >> 16) as u16
    }

    /// Whether it is of the kind and the protocol of our filters, which can share a priority with it.
    pub(super) fn is_like_ours(&self) -> bool {
        self.kind == TcFilterBpf::KIND && self.info & 0xffff == ALL_PROTOCOLS
    }

    /// Whether it is a priority as a whole and no filter.
    pub(super) const fn is_empty(&self) -> bool {
        self.handle == 0
    }

    fn read(header: &TcHeader, attributes: &[TcAttribute]) -> Self {
        let mut filter = Self {
            kind: String::new(),
            program: None,
            name: String::new(),
            handle: header.handle.into(),
            info: header.info,
        };
        for attribute in attributes {
            match attribute {
                TcAttribute::Kind(kind) => filter.kind.clone_from(kind),
                TcAttribute::Options(options) => {
                    for option in options {
                        match option {
                            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(*id),
                            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name.clone_from(name),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        filter
    }

    #[cfg(test)]
    pub(super) fn for_test(priority: u16, name: &str) -> Self {
        Self {
            kind: TcFilterBpf::KIND.to_owned(),
            program: Some(17),
            name: name.to_owned(),
            handle: 1,
            info: u32::from(priority) << 16 | ALL_PROTOCOLS,
        }
    }
}

/// The filters of a hook, in the order in which they run.
pub(super) fn filters(ifindex: u32, hook: Hook) -> io::Result<Vec<Filter>> {
    Requests::open()?.filters(ifindex, hook)
}

/// Whether there is a filter on a hook, in any chain.
pub(super) fn is_in_use(ifindex: u32, hook: Hook) -> io::Result<bool> {
    Ok(Requests::open()?.list(about(ifindex, hook.parent()))?.iter().any(|filter| !filter.is_empty()))
}

/// Adds a filter in front of those of the same priority; answers its handle.
pub(super) fn add(ifindex: u32, hook: Hook, priority: u16, program: u32, name: &str) -> io::Result<u32> {
    let mut message = with_program(ifindex, hook, program, name);
    message.header.info = u32::from(priority) << 16 | ALL_PROTOCOLS;
    let mut handle = None;
    let flags = NLM_F_ACK | NLM_F_ECHO | NLM_F_CREATE | NLM_F_EXCL;
    ask(RouteNetlinkMessage::NewTrafficFilter(message), flags, |kind, payload| {
        if kind == libc::RTM_NEWTFILTER {
            handle = Some(TcHeader::parse(payload).map_err(io::Error::other)?.handle.into());
        }
        Ok(())
    })?;
    handle.ok_or_else(|| io::Error::other("the kernel does not say which filter it added"))
}

/// Gives a filter another program: a packet meets the old one or the new one.
pub(super) fn replace(ifindex: u32, hook: Hook, filter: &Filter, program: u32, name: &str) -> io::Result<()> {
    let mut message = with_program(ifindex, hook, program, name);
    message.header.info = filter.info;
    message.header.handle = filter.handle.into();
    ask(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_ACK, |_, _| Ok(()))
}

pub(super) fn remove(ifindex: u32, hook: Hook, filter: &Filter) -> io::Result<()> {
    let mut message = about(ifindex, hook.parent());
    message.header.info = filter.info;
    message.header.handle = filter.handle.into();
    message.attributes.push(TcAttribute::Kind(filter.kind.clone()));
    ask(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK, |_, _| Ok(()))
}

pub(super) fn add_clsact(ifindex: u32) -> io::Result<()> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    ask(RouteNetlinkMessage::NewQueueDiscipline(clsact(ifindex)), flags, |_, _| Ok(()))
}

pub(super) fn remove_clsact(ifindex: u32) -> io::Result<()> {
    ask(RouteNetlinkMessage::DelQueueDiscipline(clsact(ifindex)), NLM_F_ACK, |_, _| Ok(()))
}

/// The kind of the qdisc that an interface has where clsact would be: that, `ingress`, or none.
pub(super) fn ingress_qdisc(ifindex: u32) -> io::Result<Option<String>> {
    let message = TcMessage::with_index(ifindex.cast_signed());
    let mut found = None;
    ask(RouteNetlinkMessage::GetQueueDiscipline(message), NLM_F_DUMP, |kind, payload| {
        if kind != libc::RTM_NEWQDISC {
            return Ok(());
        }
        let header = TcHeader::parse(payload).map_err(io::Error::other)?;
        // The kernel tells of all interfaces.
        if header.index == ifindex.cast_signed() && header.parent == TcHandle::CLSACT {
            let attributes = TcMessage::parse(payload).map(|message| message.attributes).unwrap_or_default();
            found = attributes.into_iter().find_map(|attribute| match attribute {
                TcAttribute::Kind(kind) => Some(kind),
                _ => None,
            });
        }
        Ok(())
    })?;
    Ok(found)
}

fn about(ifindex: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = parent;
    message
}

fn clsact(ifindex: u32) -> TcMessage {
    let mut message = about(ifindex, TcHandle::CLSACT);
    message.header.handle = TcHandle { minor: 0, ..TcHandle::CLSACT };
    message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
    message
}

fn with_program(ifindex: u32, hook: Hook, program: u32, name: &str) -> TcMessage {
    let mut message = about(ifindex, hook.parent());
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(program)),
        TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    message
}

/// One request on a socket of its own.
fn ask(
    message: RouteNetlinkMessage,
    flags: u16,
    answer: impl FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    Requests::open()?.ask(message, flags, answer)
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(MOST_AT_ONCE) })
    }

    /// The filters of a hook, in the order in which they run.
    pub(super) fn filters(&mut self, ifindex: u32, hook: Hook) -> io::Result<Vec<Filter>> {
        let mut message = about(ifindex, hook.parent());
        message.attributes.push(TcAttribute::Chain(FIRST_CHAIN));
        self.list(message)
    }

    fn list(&mut self, message: TcMessage) -> io::Result<Vec<Filter>> {
        let mut found = Vec::new();
        self.ask(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP, |kind, payload| {
            if kind == libc::RTM_NEWTFILTER {
                let header = TcHeader::parse(payload).map_err(io::Error::other)?;
                // The header of one whose attributes are not known says where it stands.
                let attributes =
                    TcMessage::parse(payload).map(|message| message.attributes).unwrap_or_default();
                found.push(Filter::read(&header, &attributes));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Sends a request and reads its answers to their end: their types and contents.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut answer: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            self.buffer.clear();
            let length = self.socket.recv(&mut self.buffer, libc::MSG_TRUNC)?;
            if length > self.buffer.len() {
                return Err(io::Error::other("the kernel's answer is longer than its answers are"));
            }
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let reply = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
                let length = usize::try_from(reply.length()).unwrap_or(usize::MAX);
                let payload = rest.get(HEADER..length).unwrap_or_default();
                // What is left of the answers to a request that failed is not ours.
                let ours = reply.sequence_number() == self.sequence;
                match i32::from(reply.message_type()) {
                    _ if !ours => {}
                    libc::NLMSG_DONE => return Ok(()),
                    // An error with the number zero acknowledges.
                    libc::NLMSG_ERROR => {
                        let number = payload.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number));
                        return if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) };
                    }
                    _ => answer(reply.message_type(), payload)?,
                }
                // Messages are filled up to four bytes.
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL_PROTOCOLS, Filter, TcAttribute, TcFilterBpfOption, TcHeader, TcOption};

    fn bpf(kind: &str) -> Vec<TcAttribute> {
        vec![
            TcAttribute::Kind(kind.to_owned()),
            TcAttribute::Options(vec![
                TcOption::Bpf(TcFilterBpfOption::ProgName("plainsight_ingress".to_owned())),
                TcOption::Bpf(TcFilterBpfOption::ProgId(17)),
            ]),
        ]
    }

    #[test]
    fn a_filter_is_read_with_its_place_its_name_and_its_programs_number() {
        let header = TcHeader { handle: 1.into(), info: 7 << 16 | ALL_PROTOCOLS, ..TcHeader::default() };
        let filter = Filter::read(&header, &bpf("bpf"));
        assert_eq!(
            (filter.priority(), filter.program, filter.name.as_str()),
            (7, Some(17), "plainsight_ingress")
        );
        assert!(filter.is_like_ours() && !filter.is_empty());
    }

    #[test]
    fn another_kind_another_protocol_and_a_priority_as_a_whole_are_told_apart() {
        let header = TcHeader { info: 1 << 16 | ALL_PROTOCOLS, ..TcHeader::default() };
        assert!(Filter::read(&header, &bpf("bpf")).is_empty());
        assert!(!Filter::read(&header, &bpf("flower")).is_like_ours());
        let ip = TcHeader { info: 1 << 16 | 8, ..TcHeader::default() };
        assert!(!Filter::read(&ip, &bpf("bpf")).is_like_ours());
        assert!(!Filter::read(&header, &[]).is_like_ours(), "one whose attributes are not known");
    }
}
