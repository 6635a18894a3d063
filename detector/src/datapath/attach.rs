//! Owns the attaching: TCX links at the head, or filters of a clsact qdisc where the kernel has no TCX.
//!
//! The programs go first and decide nothing, so what another program does to a packet cannot hide it, and
//! nothing changes for the others.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError},
    },
};
use detector_ebpf::names;
use nix::{errno::Errno, net::if_::if_indextoname};

use super::{Attached, pins::Pins, query, takeover::Kept};

/// Priority of the filters: before those of all CNIs that leave room (Cilium takes 1 itself).
const FILTER_PRIORITY: u16 = 1;

/// An interface could not be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The interface is gone.
    #[error("interface {name} is gone")]
    NoDevice {
        /// The interface's name.
        name: String,
    },
    /// The capability for it is missing.
    #[error("not permitted to attach to {direction} of {name}: CAP_NET_ADMIN is missing")]
    NotPermitted {
        /// The interface's name.
        name: String,
        /// `ingress` or `egress`.
        direction: &'static str,
    },
    /// The kernel has neither TCX nor clsact with BPF filters.
    #[error("the kernel has no TCX, and no clsact qdisc or no BPF filter for {direction} of {name}")]
    Unsupported {
        /// The interface's name.
        name: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// What it says to the filter.
        #[source]
        source: ProgramError,
    },
    /// The kernel refused.
    #[error("attach to {direction} of {name}")]
    Kernel {
        /// The interface's name.
        name: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
}

/// Where the programs sit on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where they were put: first.
    Kept,
    /// Behind another program, or no longer there.
    Displaced,
    /// It cannot be told: filters of clsact are not asked for.
    Unknown,
}

/// The links of one interface.
#[derive(Debug)]
pub(super) struct Links {
    ingress: Link,
    egress: Link,
}

/// One direction of an interface.
#[derive(Debug)]
enum Link {
    /// A TCX link, and where it is pinned.
    Tcx(FdLink, Option<PathBuf>),
    /// A filter; it stays by itself until it is removed.
    Clsact(SchedClassifierLink),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    pub(super) name: &'static str,
    program: &'static str,
    hook: TcAttachType,
    tcx: u32,
}

const INGRESS: Direction = Direction {
    name: "ingress",
    program: names::DETECT_INGRESS,
    hook: TcAttachType::Ingress,
    tcx: query::INGRESS,
};
const EGRESS: Direction = Direction {
    name: "egress",
    program: names::DETECT_EGRESS,
    hook: TcAttachType::Egress,
    tcx: query::EGRESS,
};
pub(super) const DIRECTIONS: [Direction; 2] = [INGRESS, EGRESS];

/// Attaches to both directions, or goes on with the links of a daemon before.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: Option<&Pins>,
    kept: &mut Kept,
    ifindex: u32,
    name: &str,
) -> Result<Links, AttachError> {
    // aya attaches by name, and the interface may be called otherwise by now.
    let gone = || AttachError::NoDevice { name: name.to_owned() };
    let name = if_indextoname(ifindex).map_err(|_errno| gone())?;
    let name = name.to_str().map_err(|_not_utf8| gone())?;
    // It is empty, and not an error, where no interface has the index.
    if name.is_empty() {
        return Err(gone());
    }
    let mut one = |direction: Direction| {
        let pin = pins.map(|pins| pins.link(ifindex, direction.name));
        match kept.remove(&(ifindex, direction.name)) {
            Some(link) if sits(&link, ifindex, direction) => Ok(Link::Tcx(link, pin)),
            // Its interface has gone to another network namespace.
            link => {
                drop(link);
                one(ebpf, direction, name, pin)
            }
        }
    };
    let ingress = one(INGRESS)?;
    match one(EGRESS) {
        Ok(egress) => Ok(Links { ingress, egress }),
        Err(error) => {
            ingress.detach();
            Err(error)
        }
    }
}

fn one(ebpf: &mut Ebpf, direction: Direction, name: &str, pin: Option<PathBuf>) -> Result<Link, AttachError> {
    let failed = |source| failure(source, direction, name);
    let program = program(ebpf, direction).map_err(failed)?;
    let head = TcAttachOptions::TcxOrder(LinkOrder::first());
    match program.attach_with_options(name, direction.hook, head) {
        Ok(link) => {
            let link = program.take_link(link).map_err(failed)?;
            // What was attached by a link is one.
            let link = FdLink::try_from(link).map_err(|_no_link| failed(ProgramError::NotAttached))?;
            let Some(pin) = pin else { return Ok(Link::Tcx(link, None)) };
            // What has the path is the dead link of an interface that had the number before.
            unpin(&pin);
            match link.pin(&pin) {
                Ok(link) => Ok(Link::Tcx(link.into(), Some(pin))),
                Err(error) => {
                    let error = &error as &dyn Error;
                    tracing::warn!(
                        interface = name,
                        error,
                        "the link cannot be pinned, and ends with this process"
                    );
                    // The link has gone with the error.
                    one(ebpf, direction, name, None)
                }
            }
        }
        // Before Linux 6.6 (e420bed02507, "bpf: Add fd-based tcx multi-prog infra") there is no such link.
        Err(error) if errno(&error) == Some(Errno::EINVAL) => {
            let failed = |source| failure_without_tcx(source, direction, name);
            clsact(name).map_err(|error| failed(ProgramError::TcError(error)))?;
            let options = NlOptions { priority: FILTER_PRIORITY, ..NlOptions::default() };
            program
                .attach_with_options(name, direction.hook, TcAttachOptions::Netlink(options))
                .and_then(|link| program.take_link(link))
                .map(Link::Clsact)
                .map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether a link is on the hook of this interface of ours.
fn sits(link: &FdLink, ifindex: u32, direction: Direction) -> bool {
    let (Ok(own), Ok(there)) = (link.info(), query::programs(ifindex, direction.tcx)) else { return false };
    there.iter().any(|(_, link)| *link == own.id())
}

/// Removes the filters of our programs from every interface of the calling thread's network namespace; answers
/// how many. A filter bears its program's name.
///
/// # Errors
///
/// Interfaces cannot be listed, or a filter cannot be removed.
pub fn remove_filters() -> io::Result<usize> {
    let mut removed = 0;
    for interface in &nix::net::if_::if_nameindex()? {
        let name = interface.name().to_string_lossy();
        for direction in DIRECTIONS {
            match tc::qdisc_detach_program(&name, direction.hook, direction.program) {
                Ok(()) => removed += 1,
                Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
                // Without a qdisc there is no filter, and an interface may go at any moment.
                Err(error) => match errno(&ProgramError::TcError(error)) {
                    Some(Errno::EINVAL | Errno::ENODEV | Errno::ENOENT | Errno::EOPNOTSUPP) => {}
                    Some(errno) => return Err(errno.into()),
                    None => {}
                },
            }
        }
    }
    Ok(removed)
}

/// Adds a clsact qdisc where there is none.
fn clsact(name: &str) -> Result<(), TcError> {
    match tc::qdisc_add_clsact(name) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
        Err(TcError::AlreadyAttached) => Ok(()),
        result => result,
    }
}

impl Links {
    pub(super) const fn attached(&self) -> Attached {
        match &self.ingress {
            Link::Tcx(..) => Attached::Tcx,
            Link::Clsact(_) => Attached::Clsact,
        }
    }

    /// Whether our programs are the first on both hooks.
    pub(super) fn place(&self, ifindex: u32) -> Place {
        for (direction, link) in [(INGRESS, &self.ingress), (EGRESS, &self.egress)] {
            let Link::Tcx(link, _) = link else { return Place::Unknown };
            match (link.info(), query::programs(ifindex, direction.tcx)) {
                (Ok(own), Ok(there)) if there.first().is_some_and(|(_, first)| *first == own.id()) => {}
                (Ok(_), Ok(_)) => return Place::Displaced,
                (own, there) => {
                    let own = own.map(|own| own.id());
                    tracing::debug!(ifindex, ?own, ?there, "the hook cannot be asked");
                    return Place::Unknown;
                }
            }
        }
        Place::Kept
    }

    /// Detaches; an interface that is gone has taken its links with it.
    pub(super) fn detach(self) {
        let Self { ingress, egress } = self;
        ingress.detach();
        egress.detach();
    }

    /// Lets the links go on without this process.
    pub(super) fn leave(self) {
        let Self { ingress, egress } = self;
        for link in [ingress, egress] {
            match link {
                // The pin holds it.
                Link::Tcx(..) => {}
                // Dropping it would remove the filter.
                Link::Clsact(filter) => std::mem::forget(filter),
            }
        }
    }
}

impl Link {
    fn detach(self) {
        match self {
            Self::Tcx(link, pin) => {
                if let Some(pin) = pin {
                    unpin(&pin);
                }
                drop(link);
            }
            Self::Clsact(filter) => drop(filter),
        }
    }
}

/// Removes the pin of a link.
pub(super) fn unpin(pin: &Path) {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(pin = %pin.display(), %error, "a pin cannot be removed");
        }
        _ => {}
    }
}

pub(super) fn program(ebpf: &mut Ebpf, direction: Direction) -> Result<&mut SchedClassifier, ProgramError> {
    ebpf.program_mut(direction.program).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn failure(source: ProgramError, direction: Direction, name: &str) -> AttachError {
    let name = name.to_owned();
    match errno(&source) {
        Some(Errno::ENODEV) => AttachError::NoDevice { name },
        Some(Errno::EPERM | Errno::EACCES) => AttachError::NotPermitted { name, direction: direction.name },
        _ => AttachError::Kernel { name, direction: direction.name, source },
    }
}

/// [`failure`] where there is no TCX either.
fn failure_without_tcx(source: ProgramError, direction: Direction, name: &str) -> AttachError {
    match errno(&source) {
        // A kind of qdisc or of filter that is not built in and has no module is not there (`tc_ctl_tfilter`
        // in net/sched/cls_api.c, `qdisc_create` in net/sched/sch_api.c).
        Some(Errno::ENOENT | Errno::EOPNOTSUPP) => {
            AttachError::Unsupported { name: name.to_owned(), direction: direction.name, source }
        }
        _ => failure(source, direction, name),
    }
}

/// The error number behind an error, wherever in its chain it stands.
fn errno(error: &ProgramError) -> Option<Errno> {
    // These pass for what they hold, so that it is not in the chain itself.
    if let ProgramError::TcError(TcError::IoError(error)) | ProgramError::IOError(error) = error {
        return error.raw_os_error().map(Errno::from_raw);
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error().map(Errno::from_raw);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::{AttachError, Errno, INGRESS, ProgramError, TcError, failure, failure_without_tcx};

    fn said(errno: Errno) -> ProgramError {
        let io_error = io::Error::from_raw_os_error(errno as i32);
        ProgramError::SyscallError(SyscallError { call: "sendto", io_error })
    }

    #[test]
    fn an_interface_that_goes_while_it_is_looked_for_is_gone() {
        let error = io::Error::from_raw_os_error(Errno::ENODEV as i32);
        let error = failure(ProgramError::TcError(TcError::IoError(error)), INGRESS, "veth1");
        assert!(matches!(error, AttachError::NoDevice { .. }), "{error:?}");
    }

    #[test]
    fn a_kind_that_the_kernel_does_not_have_is_a_missing_feature_and_other_refusals_are_not() {
        for errno in [Errno::ENOENT, Errno::EOPNOTSUPP] {
            let error = failure_without_tcx(said(errno), INGRESS, "veth1");
            assert!(matches!(error, AttachError::Unsupported { .. }), "{error:?}");
            let error = failure(said(errno), INGRESS, "veth1");
            assert!(matches!(error, AttachError::Kernel { .. }), "with TCX it is another matter: {error:?}");
        }
        let error = failure_without_tcx(said(Errno::ENODEV), INGRESS, "veth1");
        assert!(matches!(error, AttachError::NoDevice { .. }), "{error:?}");
        let error = failure_without_tcx(said(Errno::EPERM), INGRESS, "veth1");
        assert!(matches!(error, AttachError::NotPermitted { .. }), "{error:?}");
        let error = failure_without_tcx(said(Errno::ENOMEM), INGRESS, "veth1");
        assert!(matches!(error, AttachError::Kernel { .. }), "{error:?}");
    }
}
