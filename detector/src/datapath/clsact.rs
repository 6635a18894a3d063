//! Owns the attaching by filters of a clsact qdisc, for kernels without TCX.
//!
//! A filter stays by itself until it is removed, and bears a name of ours with the folder of pins that it belongs
//! to, and a mark if the qdisc is ours too: by that name a filter of a daemon before is found and given its new program in place, so that no packet
//! passes between the two and none is added beside it. The kernel runs filters by priority, and of one priority
//! first the one that came last (`cls_bpf_change` in net/sched/cls_bpf.c): whoever comes later sits in front, so
//! the place is looked at again and again.

mod netlink;

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::Path,
};

use nix::{errno::Errno, net::if_::if_nameindex};

use self::netlink::{Filter, Hook, Requests};
use super::{attach::Place, pins::Pins};

/// The least priority is the first: before the filters of all CNIs that leave room (Cilium takes 1 itself).
const FIRST: u16 = 1;

/// In the name of a filter: the qdisc was made for it. A qdisc itself has no name, and clsact's handle is always the
/// same.
const OWN_QDISC: &str = "+qdisc";

/// A loaded program, and the number that the kernel knows it by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) id: u32,
}

/// What of an interface is ours: a filter on each hook, and perhaps the qdisc.
#[derive(Debug)]
pub(super) struct Filters {
    ifindex: u32,
    owner: Owner,
    /// The numbers of our programs, in the order of [`Hook::BOTH`].
    ids: [u32; 2],
    /// Whether the qdisc was made by us, or by a daemon before that had the same pins.
    own_qdisc: bool,
}

/// Whose a filter is: the names of the filters of one folder of pins, or of a daemon without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    suffix: String,
}

/// One look at many interfaces, on one socket.
#[derive(Debug, Default)]
pub(super) struct Look(Option<Requests>);

impl Look {
    fn filters(&mut self, ifindex: u32, hook: Hook) -> io::Result<Vec<Filter>> {
        let requests = match &mut self.0 {
            Some(requests) => requests,
            none => none.insert(Requests::open()?),
        };
        requests.filters(ifindex, hook)
    }
}

/// A hook could not be attached to.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In the order of [`Hook::BOTH`].
    pub(super) hook: usize,
    pub(super) source: io::Error,
}

impl Owner {
    /// The owner of the filters that go with a folder of pins, or with none.
    pub(super) fn new(pins: Option<&Path>) -> Self {
        Self { suffix: pins.map(|folder| format!("@{}", folder.display())).unwrap_or_default() }
    }

    fn name(&self, hook: Hook, own_qdisc: bool) -> String {
        format!("plainsight_{}{}{}", hook.name(), if own_qdisc { OWN_QDISC } else { "" }, self.suffix)
    }

    fn owns(&self, filter: &Filter, hook: Hook) -> bool {
        [true, false].into_iter().any(|own_qdisc| filter.name == self.name(hook, own_qdisc))
    }

    /// Whether a filter of this owner says that the qdisc which it is in is the owner's. It says so for as long as
    /// there is that qdisc, for it goes with it.
    fn marks(&self, filter: &Filter, hook: Hook) -> bool {
        filter.name == self.name(hook, true)
    }
}

/// Attaches to both hooks of an interface of the calling thread's network namespace, or goes on with the filters
/// of a daemon before.
pub(super) fn attach(
    ifindex: u32,
    programs: [Program<'_>; 2],
    owner: &Owner,
    pins: Option<&Pins>,
) -> Result<Filters, Refusal> {
    let made = qdisc(ifindex).map_err(|source| Refusal { hook: 0, source })?;
    if made && let Some(pins) = pins {
        pins.remember_qdisc(ifindex);
    }
    let noted = || pins.is_some_and(|pins| pins.has_qdisc(ifindex));
    let marked = || has_mark(ifindex, owner).map_err(|source| Refusal { hook: 0, source });
    let own_qdisc = made || noted() || marked()?;
    let filters =
        Filters { ifindex, owner: owner.clone(), ids: programs.map(|program| program.id), own_qdisc };
    for (index, (hook, program)) in Hook::BOTH.into_iter().zip(programs).enumerate() {
        if let Err(source) = put_first(ifindex, hook, program, owner, own_qdisc) {
            filters.detach(pins);
            return Err(Refusal { hook: index, source });
        }
    }
    Ok(filters)
}

/// Puts a program first on a hook, and removes every other filter of the same owner.
fn put_first(
    ifindex: u32,
    hook: Hook,
    program: Program<'_>,
    owner: &Owner,
    own_qdisc: bool,
) -> io::Result<()> {
    let there = netlink::filters(ifindex, hook)?;
    let name = owner.name(hook, own_qdisc);
    let fd = program.fd.as_raw_fd().cast_unsigned();
    let standing = standing(&there, |filter| owner.owns(filter, hook));
    let kept = match (standing.own, standing.movable) {
        // In its place: the program is exchanged without a gap.
        (Some(own), false) => {
            if own.program != Some(program.id) || own.name != name {
                netlink::replace(ifindex, hook, own, fd, &name)?;
            }
            own.handle
        }
        // Before it is removed from its old place it is added in the new one: a packet that meets both is like
        // one that was sent twice, and one that met neither would be lost.
        _ => netlink::add(ifindex, hook, standing.priority, fd, &name)?,
    };
    for filter in there.iter().filter(|filter| owner.owns(filter, hook) && filter.handle != kept) {
        netlink::remove(ifindex, hook, filter)?;
    }
    Ok(())
}

/// How a filter of ours stands among those of a hook.
struct Standing<'a> {
    /// The first of ours.
    own: Option<&'a Filter>,
    /// How many come before it, ours not counted.
    before: usize,
    /// Whether it could stand further in front.
    movable: bool,
    /// The priority that stands in front.
    priority: u16,
}

fn standing<'a>(there: &'a [Filter], is_own: impl Fn(&Filter) -> bool) -> Standing<'a> {
    // A priority belongs to one kind of filter and one protocol.
    let taken = |priority| there.iter().any(|filter| filter.priority() == priority && !filter.is_like_ours());
    let priority = (FIRST..u16::MAX).find(|priority| !taken(*priority)).unwrap_or(FIRST);
    let real: Vec<&Filter> = there.iter().filter(|filter| !filter.is_empty()).collect();
    let at = real.iter().position(|filter| is_own(filter));
    let own = at.and_then(|at| real.get(at).copied());
    let before = real.get(..at.unwrap_or(0)).unwrap_or_default();
    let movable = own.is_some_and(|own| own.priority() > priority)
        || before.iter().any(|filter| filter.priority() >= priority);
    Standing { own, before: before.len(), movable, priority }
}

impl Filters {
    /// Whether our programs are the first on both hooks.
    pub(super) fn place(&self, look: &mut Look) -> Place {
        for (hook, id) in Hook::BOTH.into_iter().zip(self.ids) {
            let there = match look.filters(self.ifindex, hook) {
                Ok(there) => there,
                Err(error) => {
                    tracing::debug!(ifindex = self.ifindex, %error, "the hook cannot be asked");
                    return Place::Unknown;
                }
            };
            let standing =
                standing(&there, |filter| self.owner.owns(filter, hook) && filter.program == Some(id));
            if standing.own.is_none() || standing.before > 0 {
                return Place::Displaced;
            }
        }
        Place::Kept
    }

    /// Removes the filters, and the qdisc if it is ours and nobody else has a filter in it. An interface that is
    /// gone has taken them with it.
    pub(super) fn detach(&self, pins: Option<&Pins>) {
        let Self { ifindex, owner, own_qdisc, .. } = self;
        if let Err(error) = clear(*ifindex, owner, *own_qdisc) {
            tracing::warn!(ifindex, %error, "filters cannot be removed");
        } else if let Some(pins) = pins {
            pins.forget_qdisc(*ifindex);
        }
    }
}

/// What [`remove_all`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cleared {
    pub(super) interfaces: usize,
    pub(super) filters: usize,
    pub(super) qdiscs: usize,
}

/// Removes every filter of an owner from the interfaces of the calling thread's network namespace, and the
/// qdiscs that are ours, but for the interfaces of `spared`.
///
/// An interface may come and go meanwhile, which is no error.
pub(super) fn remove_all(
    owner: &Owner,
    own_qdiscs: &[u32],
    spared: impl Fn(u32) -> bool,
) -> io::Result<Cleared> {
    let mut all = Cleared::default();
    for interface in &if_nameindex()? {
        let ifindex = interface.index();
        if spared(ifindex) {
            continue;
        }
        let (filters, qdiscs) = clear(ifindex, owner, own_qdiscs.contains(&ifindex))?;
        all.interfaces += usize::from(filters > 0);
        all.filters += filters;
        all.qdiscs += qdiscs;
    }
    Ok(all)
}

/// Gives every filter of an owner its new program, in place; answers how many there are.
pub(super) fn replace_all(owner: &Owner, programs: [Program<'_>; 2]) -> io::Result<usize> {
    let mut replaced = 0;
    for interface in &if_nameindex()? {
        for (hook, program) in Hook::BOTH.into_iter().zip(programs) {
            let there = gone_is_none(netlink::filters(interface.index(), hook))?.unwrap_or_default();
            for filter in there.iter().filter(|filter| owner.owns(filter, hook)) {
                let fd = program.fd.as_raw_fd().cast_unsigned();
                if gone_is_none(netlink::replace(interface.index(), hook, filter, fd, &filter.name))?
                    .is_some()
                {
                    replaced += 1;
                }
            }
        }
    }
    Ok(replaced)
}

/// Removes the filters of an owner from an interface, and the qdisc if it is ours and empty; answers how many
/// filters and qdiscs there were.
fn clear(ifindex: u32, owner: &Owner, own_qdisc: bool) -> io::Result<(usize, usize)> {
    let (mut removed, mut own_qdisc) = (0, own_qdisc);
    for hook in Hook::BOTH {
        let there = gone_is_none(netlink::filters(ifindex, hook))?.unwrap_or_default();
        own_qdisc |= there.iter().any(|filter| owner.marks(filter, hook));
        for filter in there.iter().filter(|filter| owner.owns(filter, hook)) {
            if gone_is_none(netlink::remove(ifindex, hook, filter))?.is_some() {
                removed += 1;
            }
        }
    }
    let in_use = |hook| Ok::<_, io::Error>(gone_is_none(netlink::is_in_use(ifindex, hook))?.unwrap_or(false));
    if !own_qdisc || in_use(Hook::Ingress)? || in_use(Hook::Egress)? {
        return Ok((removed, 0));
    }
    let qdisc = gone_is_none(netlink::remove_clsact(ifindex))?;
    Ok((removed, usize::from(qdisc.is_some())))
}

/// Whether a filter of an owner says that the qdisc of an interface is the owner's.
fn has_mark(ifindex: u32, owner: &Owner) -> io::Result<bool> {
    for hook in Hook::BOTH {
        if netlink::filters(ifindex, hook)?.iter().any(|filter| owner.marks(filter, hook)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What went by itself needs no removal: an interface with all that is on it, a qdisc with its filters.
fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            // Without a qdisc the parent of a filter is no valid one, and a kernel without filters has none.
            Some(Errno::ENODEV | Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Makes the qdisc where there is none; answers whether it was made.
fn qdisc(ifindex: u32) -> io::Result<bool> {
    match netlink::add_clsact(ifindex) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
            match netlink::ingress_qdisc(ifindex)?.as_deref() {
                // It has one hook, and takes filters of the other for its own.
                Some("ingress") => Err(io::Error::other(
                    "the interface has an ingress qdisc, which has no egress; `tc qdisc replace` it by clsact",
                )),
                _ => Ok(false),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Filter, Hook, Owner, standing};

    fn own() -> Owner {
        Owner::new(Some(Path::new("/pins")))
    }

    fn filter(priority: u16, name: &str) -> Filter {
        Filter::for_test(priority, name)
    }

    fn ours(priority: u16) -> Filter {
        filter(priority, "plainsight_ingress@/pins")
    }

    /// How many stand before ours, whether it can be moved, and to which priority.
    fn stands(there: &[Filter]) -> (usize, bool, u16) {
        let standing = standing(there, |filter| own().owns(filter, Hook::Ingress));
        (standing.before, standing.movable, standing.priority)
    }

    #[test]
    fn a_filter_is_ours_by_its_name_with_its_pins_alone() {
        let owns = |name: &str| own().owns(&filter(1, name), Hook::Ingress);
        assert!(owns("plainsight_ingress@/pins"));
        for other in
            ["plainsight_egress@/pins", "plainsight_ingress", "plainsight_ingress@/others", "cil_from", ""]
        {
            assert!(!owns(other), "{other}");
        }
        assert!(Owner::new(None).owns(&filter(1, "plainsight_egress"), Hook::Egress));
    }

    #[test]
    fn a_filter_in_a_qdisc_of_ours_says_so_and_one_of_another_owner_says_nothing() {
        let marked = filter(1, "plainsight_ingress+qdisc@/pins");
        assert!(own().owns(&marked, Hook::Ingress) && own().marks(&marked, Hook::Ingress));
        assert!(!own().marks(&ours(1), Hook::Ingress));
        for other in ["plainsight_ingress+qdisc", "plainsight_ingress+qdisc@/others", "+qdisc"] {
            let other = filter(1, other);
            assert!(!own().owns(&other, Hook::Ingress) && !own().marks(&other, Hook::Ingress), "{other:?}");
        }
        assert!(Owner::new(None).marks(&filter(1, "plainsight_egress+qdisc"), Hook::Egress));
    }

    #[test]
    fn ours_is_moved_when_another_came_after_it_and_left_where_none_did() {
        assert_eq!(stands(&[ours(1)]), (0, false, 1));
        assert_eq!(stands(&[ours(1), filter(1, "other"), filter(2, "other")]), (0, false, 1));
        assert_eq!(stands(&[filter(1, "other"), ours(1)]), (1, true, 1));
        assert_eq!(stands(&[ours(2)]), (0, true, 1));
    }

    #[test]
    fn a_priority_that_another_kind_of_filter_has_cannot_be_had_and_is_no_reason_to_move() {
        let mut flower = filter(1, "");
        flower.kind = "flower".to_owned();
        assert_eq!(stands(&[flower.clone(), ours(2)]), (1, false, 2));
        assert_eq!(stands(&[flower.clone()]), (0, false, 2));
        assert_eq!(stands(&[flower, filter(2, "other"), ours(2)]), (2, true, 2));
    }
}
