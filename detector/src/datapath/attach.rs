//! Owns the attaching: TCX links at the head, or what [`clsact`] owns where the kernel has no TCX.
//!
//! The programs go first and decide nothing, so what another program does to a packet cannot hide it, and
//! nothing changes for the others.
//!
//! By TCX a program cannot be on a hook twice. So each is loaded twice, as [`Instances`]: to be put first again,
//! the other instance of it comes before the one that was displaced goes, and no packet meets neither. A packet
//! that meets both is like one that was sent twice.

use std::{
    error::Error,
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{ProgramError, ProgramFd, SchedClassifier, links::FdLink, tc::TcError},
    sys::SyscallError,
};
use detector_ebpf::names;
use nix::{errno::Errno, net::if_::if_indextoname};

use super::{Attached, HookChoice, bpf, clsact, pins::Pins, takeover::Kept};

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
    held: Held,
    /// The kernel's number of it.
    id: u32,
    instance: Instance,
    pin: Option<PathBuf>,
}

/// What keeps a link; it ends when this is dropped, unless it is pinned.
#[derive(Debug)]
enum Held {
    /// Made here.
    Made { _link: OwnedFd },
    /// A daemon's before.
    Kept { _link: FdLink },
}

/// Which instance of a program a link runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instance {
    /// The one that [`Ebpf`] holds, and that every link begins with.
    First,
    /// The one of [`Instances`].
    Second,
}

/// The second instances of the programs, in the order of [`DIRECTIONS`]; none where nothing is attached by TCX.
#[derive(Debug, Default)]
pub(super) struct Instances(Option<[ProgramFd; 2]>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    pub(super) name: &'static str,
    program: &'static str,
    tcx: u32,
}

const INGRESS: Direction = Direction { name: "ingress", program: names::DETECT_INGRESS, tcx: bpf::INGRESS };
const EGRESS: Direction = Direction { name: "egress", program: names::DETECT_EGRESS, tcx: bpf::EGRESS };
pub(super) const DIRECTIONS: [Direction; 2] = [INGRESS, EGRESS];

impl Instances {
    /// Loads the programs a second time, where they will be attached by TCX. What is attached already is no
    /// instance's any more, so this comes first.
    pub(super) fn load(ebpf: &mut Ebpf, hooks: HookChoice) -> Result<Self, (&'static str, ProgramError)> {
        /// Every network namespace has it (`LOOPBACK_IFINDEX` of net/net_namespace.h).
        const LOOPBACK: u32 = 1;
        if hooks == HookChoice::Clsact || bpf::programs(LOOPBACK, INGRESS.tcx).is_err() {
            return Ok(Self(None));
        }
        let mut second = |direction: Direction| {
            let again = |program: &mut SchedClassifier| {
                let second = program.fd()?.try_clone()?;
                program.unload()?;
                program.load()?;
                Ok(second)
            };
            program(ebpf, direction).and_then(again).map_err(|error| (direction.program, error))
        };
        Ok(Self(Some([second(INGRESS)?, second(EGRESS)?])))
    }

    /// The second instance of each program, with the program's name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &ProgramFd)> {
        DIRECTIONS
            .iter()
            .zip(self.0.iter().flatten())
            .map(|(direction, program)| (direction.program, program))
    }

    fn get(&self, direction: Direction) -> Option<BorrowedFd<'_>> {
        self.all().find(|(name, _)| *name == direction.program).map(|(_, program)| program.as_fd())
    }
}

/// Attaches to both directions, or goes on with what a daemon before left there.
pub(super) fn attach(
    ebpf: &Ebpf,
    pins: Option<&Pins>,
    kept: &mut Kept,
    hooks: HookChoice,
    ifindex: u32,
    name: &str,
) -> Result<Links, AttachError> {
    let name = &present(ifindex, name)?;
    let mut one = |direction: Direction| {
        let pin = pins.map(|pins| pins.link(ifindex, direction.name));
        match kept.remove(&(ifindex, direction.name)).map(|link| (number_on(&link, ifindex, direction), link))
        {
            Some((Some(id), link)) => {
                Ok(Some(Link { held: Held::Kept { _link: link }, id, instance: Instance::First, pin }))
            }
            // Its interface has gone to another network namespace.
            link => {
                drop(link);
                match hooks {
                    HookChoice::Best => tcx(ebpf, direction, ifindex, name, pin),
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

/// What an interface is called now; an error if there is none.
fn present(ifindex: u32, name: &str) -> Result<String, AttachError> {
    match if_indextoname(ifindex).map(|now| now.into_string()) {
        // It is empty, and not an error, where no interface has the index.
        Ok(Ok(now)) if !now.is_empty() => Ok(now),
        _ => Err(AttachError::NoDevice { name: name.to_owned() }),
    }
}

/// Attaches by a TCX link; none where the kernel has no TCX.
fn tcx(
    ebpf: &Ebpf,
    direction: Direction,
    ifindex: u32,
    name: &str,
    pin: Option<PathBuf>,
) -> Result<Option<Link>, AttachError> {
    let failed = |source| failure(source, direction, name);
    let program = loaded(ebpf, direction).map_err(failed)?.fd().map_err(failed)?;
    match Link::first(program.as_fd(), direction, ifindex, Instance::First) {
        Ok(mut link) => {
            link.pin(pin, name);
            Ok(Some(link))
        }
        // Before Linux 6.6 (e420bed02507, "bpf: Add fd-based tcx multi-prog infra") there is no such link.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(None),
        Err(error) => Err(failed(refusal(error))),
    }
}

const fn refusal(io_error: io::Error) -> ProgramError {
    ProgramError::SyscallError(SyscallError { call: "BPF_LINK_CREATE", io_error })
}

/// Puts the programs of an interface first again, each before it leaves its old place. Where that cannot be,
/// because the hook has no room for one more, it leaves before it comes.
///
/// After an error nothing is attached.
pub(super) fn restore(
    ebpf: &Ebpf,
    second: &Instances,
    pins: Option<&Pins>,
    ifindex: u32,
    name: &str,
    links: Links,
) -> Result<Links, AttachError> {
    let (ingress, egress) = match links {
        Links::Tcx { ingress, egress } => (ingress, egress),
        Links::Clsact(_) => return by_filters(ebpf, pins, ifindex, &present(ifindex, name)?),
    };
    match ingress.put_first(ebpf, second, INGRESS, ifindex, name) {
        Err(error) => {
            egress.detach();
            Err(error)
        }
        Ok(ingress) => match egress.put_first(ebpf, second, EGRESS, ifindex, name) {
            Ok(egress) => Ok(Links::Tcx { ingress, egress }),
            Err(error) => {
                ingress.detach();
                Err(error)
            }
        },
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
    let known = |hook: usize, direction: Direction| {
        let program = loaded(ebpf, direction).and_then(|program| Ok((program.fd()?, program.info()?.id())));
        program.map_err(|error| clsact::Refusal { hook, source: io::Error::other(error) })
    };
    let ((ingress, ingress_id), (egress, egress_id)) = (known(0, INGRESS)?, known(1, EGRESS)?);
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

/// The number of a link, if it is on the hook of this interface of ours.
fn number_on(link: &FdLink, ifindex: u32, direction: Direction) -> Option<u32> {
    let (own, there) = (link.info().ok()?.id(), bpf::programs(ifindex, direction.tcx).ok()?);
    there.iter().any(|(_, link)| *link == own).then_some(own)
}

impl Links {
    pub(super) const fn attached(&self) -> Attached {
        match self {
            Self::Tcx { .. } => Attached::Tcx,
            Self::Clsact(_) => Attached::Clsact,
        }
    }

    /// Where the programs sit.
    pub(super) fn place(&self, ifindex: u32, look: &mut clsact::Look) -> Place {
        let (ingress, egress) = match self {
            Self::Tcx { ingress, egress } => (ingress, egress),
            Self::Clsact(filters) => return filters.place(look),
        };
        for (direction, link) in [(INGRESS, ingress), (EGRESS, egress)] {
            match link.is_first(direction, ifindex) {
                Ok(true) => {}
                Ok(false) => return Place::Displaced,
                Err(error) => {
                    tracing::debug!(ifindex, %error, "the hook cannot be asked");
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
    /// A link of a program at the head of a hook.
    fn first(
        program: BorrowedFd<'_>,
        direction: Direction,
        ifindex: u32,
        instance: Instance,
    ) -> io::Result<Self> {
        let link = bpf::link(program, ifindex, direction.tcx, bpf::BEFORE)?;
        let id = bpf::link_id(&link)?;
        Ok(Self { held: Held::Made { _link: link }, id, instance, pin: None })
    }

    /// Pins it where a link may be that has come to its end: of an interface that had the number before, or of the
    /// place that this one takes.
    fn pin(&mut self, pin: Option<PathBuf>, interface: &str) {
        let (Held::Made { _link: link }, Some(path)) = (&self.held, pin) else { return };
        unpin(&path);
        match bpf::pin(link, &path) {
            Ok(()) => self.pin = Some(path),
            Err(error) => {
                tracing::warn!(interface, %error, "the link cannot be pinned, and ends with this process");
            }
        }
    }

    fn is_first(&self, direction: Direction, ifindex: u32) -> io::Result<bool> {
        Ok(bpf::programs(ifindex, direction.tcx)?.first().is_some_and(|(_, first)| *first == self.id))
    }

    /// The link at the head of its hook, or another in its place there.
    fn put_first(
        self,
        ebpf: &Ebpf,
        second: &Instances,
        direction: Direction,
        ifindex: u32,
        name: &str,
    ) -> Result<Self, AttachError> {
        if self.is_first(direction, ifindex).unwrap_or(false) {
            return Ok(self);
        }
        let failed = |source| failure(source, direction, name);
        let first = loaded(ebpf, direction).map_err(failed)?.fd().map_err(failed)?;
        let other = match self.instance {
            Instance::First => second.get(direction).map(|program| (program, Instance::Second)),
            Instance::Second => Some((first.as_fd(), Instance::First)),
        };
        if let Some((program, instance)) = other {
            match Self::first(program, direction, ifindex, instance) {
                Ok(mut link) => {
                    let pin = self.pin.clone();
                    // At once: packets meet both.
                    self.detach();
                    link.pin(pin, name);
                    return Ok(link);
                }
                Err(error) => {
                    tracing::debug!(interface = name, direction = direction.name, %error, "ours leaves before it comes");
                }
            }
        }
        let pin = self.pin.clone();
        self.detach();
        let mut link = Self::first(first.as_fd(), direction, ifindex, Instance::First)
            .map_err(|error| failed(refusal(error)))?;
        link.pin(pin, name);
        Ok(link)
    }

    fn detach(self) {
        let Self { held, pin, .. } = self;
        if let Some(pin) = pin {
            unpin(&pin);
        }
        drop(held);
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

fn loaded(ebpf: &Ebpf, direction: Direction) -> Result<&SchedClassifier, ProgramError> {
    ebpf.program(direction.program).ok_or(ProgramError::NotLoaded)?.try_into()
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
