//! Owns the programs under test: loads the object that ships and the one it is compared with, and runs
//! packets through them.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, ProgramArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions, tc::TcAttachType},
};
use clap::Parser;
use detector::{args::RunArgs, config::Config};
use detector_ebpf::{
    budget::Budget,
    edge::{EdgeKey, EdgeValue},
    names,
    verdict::Verdict,
};

use crate::{machine, traffic::Pair};

/// Where `cargo xtask bench` says that the objects are.
const OBJECT: &str = "PLAINSIGHT_BENCH_OBJECT";
const COMPARISON: &str = "PLAINSIGHT_BENCH_COMPARISON";

/// A program that packets are run through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Returns at once.
    Empty = 0,
    /// Updates a record of each flow, as flow exporters do.
    Record = 1,
    /// The detector, for packets that the pod sends.
    Detector = 2,
}

/// Sizes and settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max_flows: u32,
    /// One in how many packets of unknown flows is looked at; 0 for none.
    pub(crate) sample_one_in: u32,
    pub(crate) budget_ns_per_ms: u32,
    /// Flows that the flow exporter has room for.
    pub(crate) records: u32,
}

impl Settings {
    /// The product's own.
    pub(crate) fn product() -> Result<Self> {
        let Config { max_flows, sample_one_in, budget_ns_per_ms, .. } = defaults()?;
        let sample_one_in = sample_one_in.get();
        Ok(Self { max_flows, sample_one_in, budget_ns_per_ms, records: 131_072 })
    }

    /// Without a budget: for what a scan costs, and not how often there is one.
    pub(crate) fn unlimited() -> Result<Self> {
        Ok(Self { budget_ns_per_ms: Budget::UNLIMITED, max_flows: 131_072, ..Self::product()? })
    }
}

/// What `plainsight run` does without flags.
pub(crate) fn defaults() -> Result<Config> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        run: RunArgs,
    }
    Ok(Flags::try_parse_from(["plainsight"])?.run.try_into()?)
}

/// How the packets of a run differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drive {
    /// Tuples, a power of two.
    pub(crate) tuples: u32,
    /// Sequence number of the first packet.
    pub(crate) sequence: u32,
    /// What each packet adds to it.
    pub(crate) step: u32,
    /// Number of the first packet: which tuples come first.
    pub(crate) first: u32,
}

/// The programs, loaded.
pub(crate) struct Subject {
    comparison: Ebpf,
    detector: Ebpf,
    /// The kernel empties an array of programs when user space lets go of it.
    _targets: ProgramArray<MapData>,
}

impl Subject {
    pub(crate) fn load(settings: Settings) -> Result<Self> {
        let Settings { max_flows, sample_one_in, budget_ns_per_ms, records } = settings;
        let sample_below = u32::MAX.checked_div(sample_one_in).unwrap_or(0);
        let mut detector = EbpfLoader::new()
            .override_global(names::SAMPLE_BELOW, &sample_below, true)
            .override_global(names::BUDGET_NS_PER_MS, &budget_ns_per_ms, true)
            .map_max_entries(names::FLOWS, max_flows)
            .load(&object(OBJECT)?)
            .context("load the detector's object")?;
        let mut comparison = EbpfLoader::new()
            .map_max_entries("RECORDS", records)
            .load(&object(COMPARISON)?)
            .context("load the comparison's object")?;
        program(&mut comparison, "drive")?.load().context("load drive")?;
        let map = comparison.take_map("TARGETS").context("no map TARGETS")?;
        let mut targets = ProgramArray::try_from(map)?;
        let mut aim = |target: Target, ebpf: &mut Ebpf, name| -> Result<()> {
            let program = program(ebpf, name)?;
            program.load().with_context(|| format!("load {name}"))?;
            targets.set(target as u32, program.fd()?, 0).with_context(|| format!("aim at {name}"))
        };
        aim(Target::Empty, &mut comparison, "empty")?;
        aim(Target::Record, &mut comparison, "record")?;
        aim(Target::Detector, &mut detector, names::DETECT_INGRESS)?;
        Ok(Self { comparison, detector, _targets: targets })
    }

    /// Runs packets through a program; answers the nanoseconds of CPU time that each took.
    ///
    /// What it takes to vary the packet is in it, the same for every target.
    pub(crate) fn run(&mut self, target: Target, frame: &[u8], drive: Drive, packets: u32) -> Result<f64> {
        let Drive { tuples, sequence, step, first } = drive;
        ensure!(tuples.is_power_of_two(), "{tuples} tuples: not a power of two");
        let words = [tuples - 1, sequence, step, target as u32, first];
        let map = self.comparison.map_mut("DRIVE").context("no map DRIVE")?;
        Array::<_, [u32; 5]>::try_from(map)?.set(0, words, 0).context("set the drive")?;
        timed(program(&mut self.comparison, "drive")?, frame, packets)
    }

    /// Runs one and the same packet through a program.
    pub(crate) fn repeat(&mut self, target: Target, frame: &[u8], packets: u32) -> Result<f64> {
        let program = match target {
            Target::Empty => program(&mut self.comparison, "empty")?,
            Target::Record => program(&mut self.comparison, "record")?,
            Target::Detector => program(&mut self.detector, names::DETECT_INGRESS)?,
        };
        timed(program, frame, packets)
    }

    /// Connections that were counted with one of these verdicts, and all the evidence that they showed.
    pub(crate) fn counted(&self, verdicts: &[Verdict]) -> Result<(u64, u64)> {
        let map = self.detector.map(names::EDGES).context("no map of edges")?;
        let edges = HashMap::<_, EdgeKey, EdgeValue>::try_from(map)?;
        let (mut connections, mut evidence) = (0, 0);
        for edge in edges.iter() {
            let (key, value) = edge.context("read an edge")?;
            if verdicts.iter().any(|verdict| key.verdict == *verdict as u8) {
                connections += value.entered - value.left;
                evidence |= value.evidence;
            }
        }
        Ok((connections, evidence))
    }

    /// Flows in the flow map.
    pub(crate) fn flows(&self) -> Result<usize> {
        let map = self.detector.map(names::FLOWS).context("no map of flows")?;
        let flows = HashMap::<_, detector_ebpf::flow::FlowKey, detector_ebpf::flow::Flow>::try_from(map)?;
        Ok(flows.keys().filter(Result::is_ok).count())
    }
}

/// Attaches the empty program to both pods, until what is answered is dropped.
pub(crate) fn attach_empty(pair: &Pair) -> Result<Ebpf> {
    let mut comparison = Ebpf::load(&object(COMPARISON)?).context("load the comparison's object")?;
    let empty = program(&mut comparison, "empty")?;
    empty.load().context("load empty")?;
    pair.node.netns().run(|| {
        for pod in [&pair.client, &pair.server] {
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                let name = pod.plan().interface();
                let _link = empty.attach(&name, hook).with_context(|| format!("attach to {name}"))?;
            }
        }
        Ok(())
    })?;
    Ok(comparison)
}

fn timed(program: &SchedClassifier, frame: &[u8], packets: u32) -> Result<f64> {
    /// `TC_ACT_UNSPEC`, as all targets answer.
    const UNSPEC: u32 = u32::MAX;
    let options = TestRunOptions { data_in: Some(frame), repeat: packets, ..TestRunOptions::default() };
    let before = machine::thread_time()?;
    let result = program.test_run(options).context("run a packet")?;
    let took = machine::thread_time()?.saturating_sub(before);
    if result.return_value != UNSPEC {
        bail!("the program answered {}: the one under test was not reached", result.return_value);
    }
    Ok(took.as_nanos() as f64 / f64::from(packets))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn object(variable: &str) -> Result<Vec<u8>> {
    let path =
        env::var_os(variable).with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))?;
    let path = PathBuf::from(path);
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}
