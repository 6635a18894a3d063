//! Owns the loading of the object: its sizes and settings, and the verifier's answer in words.

use std::path::Path;

use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel, include_bytes_aligned,
    programs::{ProgramError, SchedClassifier},
};
use detector_ebpf::names;

use super::{DatapathConfig, attach::Instances, pins::PinsError};

/// The eBPF object of this build; empty in a build with `PLAINSIGHT_SKIP_EBPF=1`.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/detector-bpf"));

/// Lines of the verifier's log that are kept: the reason stands at its end.
const LOG_LINES: usize = 8;

/// The kernel half could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This build has no object: it was made with `PLAINSIGHT_SKIP_EBPF=1`.
    #[error("this build has no eBPF object in it (built with PLAINSIGHT_SKIP_EBPF=1)")]
    Stub,
    /// The object, a map or its BTF was refused.
    #[error("load the eBPF object")]
    Object(#[source] EbpfError),
    /// The pins of a daemon before cannot be used.
    #[error("take over the pins")]
    Pins(#[from] PinsError),
    /// The object has no program of this name.
    #[error("the eBPF object has no program {0}")]
    NoProgram(&'static str),
    /// A program was refused.
    #[error("load program {name}{log}")]
    Program {
        /// The program.
        name: &'static str,
        /// The end of the verifier's log, each line after a line break.
        log: String,
        /// Why.
        #[source]
        source: ProgramError,
    },
}

/// Maps that are pinned. `SCRATCH` is not: nothing in it is worth keeping.
const PINNED: [&str; 6] =
    [names::FLOWS, names::FILTER, names::EDGES, names::EVENTS, names::HELLOS, names::COUNTERS];

/// Loads the object; its maps are those that are pinned in `pins`, or are pinned there.
pub(super) fn load(config: &DatapathConfig, pins: Option<&Path>) -> Result<Ebpf, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::Stub);
    }
    let sample_below = u32::MAX.checked_div(config.sample_one_in).unwrap_or(0);
    let idle_ns = u64::try_from(config.idle.as_nanos()).unwrap_or(u64::MAX);
    let mut loader = EbpfLoader::new();
    for (name, folder) in PINNED.into_iter().zip(pins.into_iter().cycle()) {
        loader.map_pin_path(name, folder.join(name));
    }
    let mut ebpf = loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global(names::SAMPLE_BELOW, &sample_below, true)
        .override_global(names::BUDGET_NS_PER_MS, &config.budget_ns_per_ms, true)
        .override_global(names::SCAN_WINDOW, &config.scan_window, true)
        .override_global(names::IDLE_NS, &idle_ns, true)
        .map_max_entries(names::FLOWS, config.max_flows)
        .map_max_entries(names::EDGES, config.max_edges)
        .load(OBJECT)
        .map_err(LoadError::Object)?;
    for name in [names::DETECT_INGRESS, names::DETECT_EGRESS, names::EXPIRE] {
        let program = ebpf.program_mut(name).ok_or(LoadError::NoProgram(name))?;
        let refused = |source| LoadError::Program { name, log: log(&source), source };
        let program: &mut SchedClassifier = program.try_into().map_err(refused)?;
        program.load().map_err(refused)?;
    }
    Ok(ebpf)
}

/// [`load`], with a second instance of the programs that are attached.
pub(super) fn load_twice(
    config: &DatapathConfig,
    pins: Option<&Path>,
) -> Result<(Ebpf, Instances), LoadError> {
    let mut ebpf = load(config, pins)?;
    let second = Instances::load(&mut ebpf, config.hooks).map_err(|(name, source)| LoadError::Program {
        name,
        log: log(&source),
        source,
    })?;
    Ok((ebpf, second))
}

/// The end of the verifier's log, if the error has one.
fn log(error: &ProgramError) -> String {
    let ProgramError::LoadError { verifier_log, .. } = error else {
        return String::new();
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_LINES);
    lines.into_iter().skip(skipped).flat_map(|line| ["\n  ", line]).collect()
}
