//! Owns the attaching: TCX links at the head, or what [`clsact`] owns where the kernel has no TCX.
//!
//! The programs go first and decide nothing, so what another program does to a packet cannot hide it, and
//! nothing changes for the others.

use std::{
    error::Error,
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{TcAttachOptions, TcError},
    },
};
use detector_ebpf::names;
use nix::{errno::Errno, net::if_::if_indextoname};

use super::{Attached, HookChoice, clsact, pins::Pins, query, takeover::Kept};

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
    /// It cannot be told: the kernel does not answer.
    Unknown,
}

/// What holds the programs on one interface.
#[derive(Debug)]
pub(super) enum Links {
    /// A TCX link in each direction.
    Tcx { ingress: Link, egress: Link },
    /// Filters; they stay by themselves until they are removed.
    Clsact(clsact::Filters),
}

/// A TCX link, and where it is pinned.
#[derive(Debug)]
pub(super) struct Link {
    link: FdLink,
    pin: Option<PathBuf>,
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

/// Attaches to both directions, or goes on with what a daemon before left there.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: Option<&Pins>,
    kept: &mut Kept,
    hooks: HookChoice,
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
            Some(link) if sits(&link, ifindex, direction) => Ok(Some(Link { link, pin })),
            // Its interface has gone to another network namespace.
            link => {
                drop(link);
                match hooks {
                    HookChoice::Best => tcx(ebpf, direction, name, pin),
                    HookChoice::Clsact => Ok(None),
                }
            }
        }
    };
    let ingress = one(INGRESS)?;
    match (ingress, one(EGRESS)) {
        (Some(ingress), Ok(Some(egress))) => Ok(Links::Tcx { ingress, egress }),
        (ingress, egress) => {
            if let Some(ingress) = ingress {
                ingress.detach();
            }
            if let Some(egress) = egress? {
                egress.detach();
            }
            by_filters(ebpf, pins, ifindex, name)
        }
    }
}

/// Attaches by a TCX link; none where the kernel has no TCX.
fn tcx(
    ebpf: &mut Ebpf,
    direction: Direction,
    name: &str,
    pin: Option<PathBuf>,
) -> Result<Option<Link>, AttachError> {
    let failed = |source| failure(source, direction, name);
    let program = program(ebpf, direction).map_err(failed)?;
    let head = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = match program.attach_with_options(name, direction.hook, head) {
        Ok(link) => program.take_link(link).map_err(failed)?,
        // Before Linux 6.6 (e420bed02507, "bpf: Add fd-based tcx multi-prog infra") there is no such link.
        Err(error) if errno(&error) == Some(Errno::EINVAL) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // What was attached by a link is one.
    let link = FdLink::try_from(link).map_err(|_no_link| failed(ProgramError::NotAttached))?;
    let Some(pin) = pin else { return Ok(Some(Link { link, pin: None })) };
    // What has the path is the dead link of an interface that had the number before.
    unpin(&pin);
    match link.pin(&pin) {
        Ok(link) => Ok(Some(Link { link: link.into(), pin: Some(pin) })),
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::warn!(interface = name, error, "the link cannot be pinned, and ends with this process");
            // The link has gone with the error.
            tcx(ebpf, direction, name, None)
        }
    }
}

fn by_filters(ebpf: &Ebpf, pins: Option<&Pins>, ifindex: u32, name: &str) -> Result<Links, AttachError> {
    with_programs(ebpf, |programs| clsact::attach(ifindex, programs, &owner(pins), pins))
        .map(Links::Clsact)
        .map_err(|refusal| refused(refusal, name))
}

/// Whose the filters are that go with these pins.
pub(super) fn owner(pins: Option<&Pins>) -> clsact::Owner {
    clsact::Owner::new(pins.map(Pins::folder))
}

/// Hands the programs of both hooks to `job`.
pub(super) fn with_programs<T>(
    ebpf: &Ebpf,
    job: impl FnOnce([clsact::Program<'_>; 2]) -> Result<T, clsact::Refusal>,
) -> Result<T, clsact::Refusal> {
    let loaded = |hook: usize, direction: Direction| {
        let program: Result<&SchedClassifier, ProgramError> =
            ebpf.program(direction.program).ok_or(ProgramError::NotLoaded).and_then(TryInto::try_into);
        let loaded = program.and_then(|program| Ok((program.fd()?, program.info()?.id())));
        loaded.map_err(|error| clsact::Refusal { hook, source: io::Error::other(error) })
    };
    let ((ingress, ingress_id), (egress, egress_id)) = (loaded(0, INGRESS)?, loaded(1, EGRESS)?);
    job([
        clsact::Program { fd: ingress.as_fd(), id: ingress_id },
        clsact::Program { fd: egress.as_fd(), id: egress_id },
    ])
}

fn refused(refusal: clsact::Refusal, name: &str) -> AttachError {
    let clsact::Refusal { hook, source } = refusal;
    let direction = DIRECTIONS.get(hook).copied().unwrap_or(INGRESS);
    failure_without_tcx(ProgramError::IOError(source), direction, name)
}

/// Whether a link is on the hook of this interface of ours.
fn sits(link: &FdLink, ifindex: u32, direction: Direction) -> bool {
    let (Ok(own), Ok(there)) = (link.info(), query::programs(ifindex, direction.tcx)) else { return false };
    there.iter().any(|(_, link)| *link == own.id())
}

impl Links {
    pub(super) const fn attached(&self) -> Attached {
        match self {
            Self::Tcx { .. } => Attached::Tcx,
            Self::Clsact(_) => Attached::Clsact,
        }
    }

    /// Where the programs sit.
    pub(super) fn place(&self, ifindex: u32) -> Place {
        let (ingress, egress) = match self {
            Self::Tcx { ingress, egress } => (ingress, egress),
            Self::Clsact(filters) => return filters.place(),
        };
        for (direction, link) in [(INGRESS, ingress), (EGRESS, egress)] {
            match (link.link.info(), query::programs(ifindex, direction.tcx)) {
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
    pub(super) fn detach(self, pins: Option<&Pins>) {
        match self {
            Self::Tcx { ingress, egress } => {
                ingress.detach();
                egress.detach();
            }
            Self::Clsact(filters) => filters.detach(pins),
        }
    }
}

impl Link {
    fn detach(self) {
        let Self { link, pin } = self;
        if let Some(pin) = pin {
            unpin(&pin);
        }
        drop(link);
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
