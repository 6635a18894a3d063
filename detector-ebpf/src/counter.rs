//! Owns the list of kernel counters: every early exit and every loss in the programs has one.
//!
//! A counter is an index into the per-CPU array map [`crate::names::COUNTERS`], and the same enum names
//! the metric label in user space, so nothing can be dropped in the kernel without a name for it.

/// One counter of the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Counter {
    /// The frame is neither IPv4 nor IPv6 (ARP, for instance).
    NotIp = 0,
    /// The packet is IP but not TCP.
    NotTcp = 1,
    /// A fragment other than the first: it has no TCP header.
    Fragment = 2,
    /// A header is cut short or contradicts itself.
    Malformed = 3,
    /// More VLAN tags than the walk follows.
    VlanDepth = 4,
    /// More IPv6 extension headers than the walk follows, or one that hides the TCP header.
    Ipv6Extension = 5,
    /// Payload could not be read from the packet.
    PayloadUnreadable = 6,
    /// A new flow found the flow map full: no verdict for it.
    FlowMapFull = 7,
    /// A verdict found the edge map full: it is not counted in an edge.
    EdgeMapFull = 8,
    /// The ring buffer was full: the edge is counted, its event is late.
    RingFull = 9,
    /// The filter sent a packet to the flow map that had no entry there.
    FilterFalseHit = 10,
    /// A segment lies before what was already read of its direction: a retransmission.
    Retransmission = 11,
    /// Bytes of a watched flow never passed here: the direction starts again at the next message.
    SequenceGap = 12,
    /// The budget of this CPU was spent: a packet of a tracked flow was passed over.
    BudgetSpent = 13,
    /// One packet held more steps than the scan takes at once: the rest of it was not read.
    StepLimit = 14,
    /// A block of payload held more tokens than are kept: the rest of its tokens were lost.
    TokenLimit = 15,
    /// A connection was opened: a SYN made a new flow.
    Opened = 16,
    /// A flow without a SYN was taken up from its payload.
    PickedUp = 17,
    /// A flow ended before anything could be said of it.
    ClosedUndecided = 18,
    /// A flow was removed because it had been idle.
    Expired = 19,
    /// A message's head is longer than the scan follows: the message was not read further.
    HeadTooLong = 20,
    /// A packet of a flow that keeps saying the same was passed over: the budget's share for such was spent.
    Thinned = 21,
    /// The budget of this CPU did not suffice for one more flow: a packet that would begin one was passed over.
    OpenRefused = 22,
    /// The budget of this CPU did not suffice to walk headers that are not the usual ones: what the packet is was
    /// not looked at.
    UnclearRefused = 23,
}

impl Counter {
    /// Every counter, in index order.
    pub const ALL: [Self; 24] = [
        Self::NotIp,
        Self::NotTcp,
        Self::Fragment,
        Self::Malformed,
        Self::VlanDepth,
        Self::Ipv6Extension,
        Self::PayloadUnreadable,
        Self::FlowMapFull,
        Self::EdgeMapFull,
        Self::RingFull,
        Self::FilterFalseHit,
        Self::Retransmission,
        Self::SequenceGap,
        Self::BudgetSpent,
        Self::StepLimit,
        Self::TokenLimit,
        Self::Opened,
        Self::PickedUp,
        Self::ClosedUndecided,
        Self::Expired,
        Self::HeadTooLong,
        Self::Thinned,
        Self::OpenRefused,
        Self::UnclearRefused,
    ];

    /// Number of counters: the size of the map.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The counter's name as a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::NotTcp => "not_tcp",
            Self::Fragment => "fragment",
            Self::Malformed => "malformed",
            Self::VlanDepth => "vlan_depth",
            Self::Ipv6Extension => "ipv6_extension",
            Self::PayloadUnreadable => "payload_unreadable",
            Self::FlowMapFull => "flow_map_full",
            Self::EdgeMapFull => "edge_map_full",
            Self::RingFull => "ring_full",
            Self::FilterFalseHit => "filter_false_hit",
            Self::Retransmission => "retransmission",
            Self::SequenceGap => "sequence_gap",
            Self::BudgetSpent => "budget_spent",
            Self::StepLimit => "step_limit",
            Self::TokenLimit => "token_limit",
            Self::Opened => "opened",
            Self::PickedUp => "picked_up",
            Self::ClosedUndecided => "closed_undecided",
            Self::Expired => "expired",
            Self::HeadTooLong => "head_too_long",
            Self::Thinned => "thinned",
            Self::OpenRefused => "open_refused",
            Self::UnclearRefused => "unclear_refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn every_counter_stands_at_its_index_under_its_own_name() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
        let mut names: Vec<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
