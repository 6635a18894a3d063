//! Owns the reading of the maps, and the removal of idle flows.

use std::{io, time::Duration};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapError, PerCpuArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use detector_ebpf::{
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    flow::{Flow, FlowKey},
    names,
};
use nix::time::{ClockId, clock_gettime};

use super::ReadError;

/// The kernel takes a run's data for an Ethernet frame and wants a header.
const EXPIRE_HEADER: usize = 14;
/// Keys that one run takes.
const EXPIRE_KEYS: usize = 32;

pub(super) fn edges(ebpf: &Ebpf) -> Result<Vec<(EdgeKey, EdgeValue)>, ReadError> {
    entries::<EdgeKey, EdgeValue>(ebpf, names::EDGES)
}

/// Removes those of the edges that have been silent for `idle`.
pub(super) fn forget_edges(
    ebpf: &mut Ebpf,
    edges: &[(EdgeKey, EdgeValue)],
    idle: Duration,
) -> Result<(), ReadError> {
    let name = names::EDGES;
    let failed = |source| ReadError::Map { name, source };
    let now = now()?;
    let map = ebpf.map_mut(name).ok_or(ReadError::Missing(name))?;
    let mut map = HashMap::<_, EdgeKey, EdgeValue>::try_from(map).map_err(failed)?;
    for (key, value) in edges {
        if is_idle(now, value.last_ns, idle) {
            match map.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }
    Ok(())
}

fn is_idle(now: Duration, last_ns: u64, idle: Duration) -> bool {
    now.saturating_sub(Duration::from_nanos(last_ns)) >= idle
}

pub(super) fn counters(ebpf: &Ebpf) -> Result<[u64; Counter::COUNT as usize], ReadError> {
    let failed = |source| ReadError::Map { name: names::COUNTERS, source };
    let counters = PerCpuArray::<_, u64>::try_from(map(ebpf, names::COUNTERS)?).map_err(failed)?;
    let mut totals = [0; Counter::COUNT as usize];
    for (counter, total) in Counter::ALL.into_iter().zip(&mut totals) {
        *total = counters.get(&(counter as u32), 0).map_err(failed)?.iter().sum();
    }
    Ok(totals)
}

/// Removes idle flows through the program that may lower the filter; answers how many, and how many are left.
pub(super) fn expire(ebpf: &mut Ebpf, idle: Duration) -> Result<(u64, u32), ReadError> {
    let now = now()?;
    let flows = entries::<FlowKey, Flow>(ebpf, names::FLOWS)?;
    let count = flows.len() as u64;
    let idle: Vec<FlowKey> =
        flows.into_iter().filter(|(_, flow)| is_idle(now, flow.last_ns, idle)).map(|(key, _)| key).collect();
    let name = names::EXPIRE;
    let program = ebpf.program_mut(name).ok_or(ReadError::Missing(name))?;
    let failed = |source| ReadError::Run { name, source };
    let program: &mut SchedClassifier = program.try_into().map_err(failed)?;
    let mut removed = 0;
    for keys in idle.chunks(EXPIRE_KEYS) {
        let mut data = vec![0; EXPIRE_HEADER];
        for key in keys {
            data.extend_from_slice(&key.to_bytes());
        }
        let options = TestRunOptions { data_in: Some(&data), ..TestRunOptions::default() };
        removed += u64::from(program.test_run(options).map_err(failed)?.return_value);
    }
    Ok((removed, u32::try_from(count.saturating_sub(removed)).unwrap_or(u32::MAX)))
}

/// All entries of a hash map. An entry that goes while the map is read is left out.
fn entries<K: aya::Pod, V: aya::Pod>(ebpf: &Ebpf, name: &'static str) -> Result<Vec<(K, V)>, ReadError> {
    let failed = |source| ReadError::Map { name, source };
    let map = HashMap::<_, K, V>::try_from(map(ebpf, name)?).map_err(failed)?;
    map.iter()
        .filter(|entry| !matches!(entry, Err(MapError::KeyNotFound)))
        .collect::<Result<_, _>>()
        .map_err(failed)
}

fn map<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Map, ReadError> {
    ebpf.map(name).ok_or(ReadError::Missing(name))
}

/// The clock of `bpf_ktime_get_ns`.
fn now() -> Result<Duration, ReadError> {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .map_err(|errno| ReadError::Clock(io::Error::from(errno)))
}
