//! Owns the kernel's own account of the programs: how often each ran, and how long that took.

use std::{error::Error, os::fd::OwnedFd, time::Duration};

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier},
    sys::{Stats, enable_stats},
};
use detector_ebpf::names;

use super::{ReadError, attach::Instances, info};

/// A program's runs, on all CPUs, since it was loaded and statistics were on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramRuns {
    /// How long they took.
    pub time: Duration,
    /// How many there were.
    pub count: u64,
}

/// The request to keep statistics, of all programs of the machine, for as long as it is held.
///
/// `BPF_ENABLE_STATS`, Linux 5.8 (d46edd671a14, "bpf: Sharing bpf runtime stats with BPF_ENABLE_STATS").
#[derive(Debug)]
pub(super) struct Statistics {
    _request: OwnedFd,
}

impl Statistics {
    /// Asks for it. What is refused costs the figures and nothing else.
    pub(super) fn start() -> Option<Self> {
        match enable_stats(Stats::RunTime) {
            Ok(request) => Some(Self { _request: request }),
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(
                    error,
                    "the kernel keeps no statistics of programs: it takes CAP_SYS_ADMIN, or sysctl kernel.bpf_stats_enabled=1"
                );
                None
            }
        }
    }
}

/// What is told of each program, over both of its instances.
pub(super) fn read(ebpf: &Ebpf, second: &Instances) -> Result<Vec<(&'static str, ProgramRuns)>, ReadError> {
    let mut runs = Vec::new();
    for name in [names::DETECT_INGRESS, names::DETECT_EGRESS, names::EXPIRE] {
        let program = ebpf.program(name).ok_or(ReadError::Missing(name))?;
        let failed = |source| ReadError::Runs { name, source };
        let program: &SchedClassifier = program.try_into().map_err(failed)?;
        let first = program.fd().map_err(failed)?;
        let others = second.all().filter(|(of, _)| *of == name).map(|(_, program)| program);
        let mut sum = ProgramRuns::default();
        for instance in std::iter::once(first).chain(others) {
            let ProgramRuns { time, count } =
                info::runs(instance).map_err(|error| failed(ProgramError::IOError(error)))?;
            sum.time += time;
            sum.count += count;
        }
        if sum.count > 0 {
            runs.push((name, sum));
        }
    }
    Ok(runs)
}
