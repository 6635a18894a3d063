//! Owns the attaching: TCX links at the head, or filters of a clsact qdisc where the kernel has no TCX.
//!
//! The programs go first and decide nothing, so what another program does to a packet cannot hide it, and
//! nothing changes for the others.

use std::io;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcError},
    },
};
use detector_ebpf::names;
use nix::{errno::Errno, net::if_::if_nametoindex};

use super::{Attached, query};

/// Priority of the filters: before those of all CNIs that leave room (Cilium takes 1 itself).
const FILTER_PRIORITY: u16 = 1;

/// An interface could not be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The interface is gone, or its name is another's by now.
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
    /// They had lost their place and have it again.
    Restored,
    /// Behind another program, or no longer there.
    Displaced,
    /// It cannot be told: filters of clsact are not asked for.
    Unknown,
}

/// The links of one interface.
#[derive(Debug)]
pub(super) struct Links {
    ingress: SchedClassifierLinkId,
    egress: SchedClassifierLinkId,
    attached: Attached,
}

#[derive(Clone, Copy)]
struct Direction {
    name: &'static str,
    program: &'static str,
    hook: TcAttachType,
}

const INGRESS: Direction =
    Direction { name: "ingress", program: names::DETECT_INGRESS, hook: TcAttachType::Ingress };
const EGRESS: Direction =
    Direction { name: "egress", program: names::DETECT_EGRESS, hook: TcAttachType::Egress };

pub(super) fn attach(ebpf: &mut Ebpf, ifindex: u32, name: &str) -> Result<Links, AttachError> {
    // aya attaches by name; the name may have gone to another interface since it was read.
    if if_nametoindex(name) != Ok(ifindex) {
        return Err(AttachError::NoDevice { name: name.to_owned() });
    }
    let (ingress, attached) = one(ebpf, INGRESS, name)?;
    match one(ebpf, EGRESS, name) {
        Ok((egress, _)) => Ok(Links { ingress, egress, attached }),
        Err(error) => {
            detach(ebpf, INGRESS, ingress);
            Err(error)
        }
    }
}

fn one(
    ebpf: &mut Ebpf,
    direction: Direction,
    name: &str,
) -> Result<(SchedClassifierLinkId, Attached), AttachError> {
    let failed = |source| failure(source, direction, name);
    let program = program(ebpf, direction).map_err(failed)?;
    let head = TcAttachOptions::TcxOrder(LinkOrder::first());
    match program.attach_with_options(name, direction.hook, head) {
        Ok(link) => Ok((link, Attached::Tcx)),
        // Before Linux 6.6 (e420bed02507, "bpf: Add fd-based tcx multi-prog infra") there is no such link.
        Err(error) if errno(&error) == Some(Errno::EINVAL) => {
            let failed = |source| failure_without_tcx(source, direction, name);
            clsact(name).map_err(|error| failed(ProgramError::TcError(error)))?;
            let options = NlOptions { priority: FILTER_PRIORITY, ..NlOptions::default() };
            program
                .attach_with_options(name, direction.hook, TcAttachOptions::Netlink(options))
                .map(|link| (link, Attached::Clsact))
                .map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
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
        self.attached
    }

    /// Whether our programs are the first on both hooks.
    pub(super) fn place(&self, ebpf: &mut Ebpf, ifindex: u32) -> Place {
        if self.attached != Attached::Tcx {
            return Place::Unknown;
        }
        for (direction, hook) in [(INGRESS, query::INGRESS), (EGRESS, query::EGRESS)] {
            let own = program(ebpf, direction).and_then(|program| Ok(program.info()?.id()));
            match (own, query::first_program(ifindex, hook)) {
                (Ok(own), Ok(first)) if first == Some(own) => {}
                (Ok(_), Ok(_)) => return Place::Displaced,
                (own, first) => {
                    tracing::debug!(ifindex, ?own, ?first, "the hook cannot be asked");
                    return Place::Unknown;
                }
            }
        }
        Place::Kept
    }

    pub(super) fn detach(self, ebpf: &mut Ebpf) {
        detach(ebpf, INGRESS, self.ingress);
        detach(ebpf, EGRESS, self.egress);
    }
}

/// Detaches; an interface that is gone has taken its links with it.
fn detach(ebpf: &mut Ebpf, direction: Direction, link: SchedClassifierLinkId) {
    let detached = program(ebpf, direction).and_then(|program| program.detach(link));
    if let Err(error) = detached {
        tracing::debug!(direction = direction.name, %error, "the link is gone already");
    }
}

fn program(ebpf: &mut Ebpf, direction: Direction) -> Result<&mut SchedClassifier, ProgramError> {
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
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
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

    use super::{AttachError, Errno, INGRESS, ProgramError, failure, failure_without_tcx};

    fn said(errno: Errno) -> ProgramError {
        let io_error = io::Error::from_raw_os_error(errno as i32);
        ProgramError::SyscallError(SyscallError { call: "sendto", io_error })
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
