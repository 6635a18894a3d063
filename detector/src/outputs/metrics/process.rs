//! Owns the metrics of the process itself, under the names that every Prometheus client uses.
//!
//! The `process` feature of the prometheus crate brings a second version of rustix for the same three figures.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};
use prometheus::{
    Counter, IntGauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{catalogue, kernel::filled, signed};

const STATUS: &str = "/proc/self/status";

#[derive(Debug)]
pub(super) struct ProcessCollector {
    started: u64,
    /// `/proc/self/status`, held open: where it is found again, after the kernel has dropped it from its cache, it is
    /// another file to Landlock.
    status: Option<File>,
    descs: Vec<Desc>,
}

struct Families {
    cpu: Counter,
    resident: IntGauge,
    start: IntGauge,
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            cpu: Counter::with_opts(catalogue::CPU.opts())?,
            resident: catalogue::RESIDENT.single_gauge()?,
            start: catalogue::START.single_gauge()?,
        })
    }
}

impl ProcessCollector {
    /// To be made at the start of the process.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let Families { cpu, resident, start } = Families::new()?;
        let descs = [cpu.desc(), resident.desc(), start.desc()].concat().into_iter().cloned().collect();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let status = File::open(STATUS)
            .inspect_err(|error| tracing::warn!(%error, "{STATUS} cannot be read: no memory in the metrics"))
            .ok();
        Ok(Self { started, status, descs })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(Families { cpu, resident, start }) = Families::new() else { return Vec::new() };
        start.set(signed(self.started));
        let mut readable: Vec<&dyn Collector> = vec![&start];
        if let Ok(time) = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID) {
            cpu.inc_by(Duration::from(time).as_secs_f64());
            readable.push(&cpu);
        }
        if let Some(bytes) = self.status.as_ref().and_then(resident_bytes) {
            resident.set(signed(bytes));
            readable.push(&resident);
        }
        filled(&readable)
    }
}

/// `VmRSS` of `/proc/self/status`, which is in KiB.
fn resident_bytes(status: &File) -> Option<u64> {
    let status = read(status).ok()?;
    let status = String::from_utf8_lossy(&status);
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    size.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What a file of the kernel's holds now, by one read: the kernel makes all of it for offset 0.
fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 8192];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{STATUS, resident_bytes};

    #[test]
    fn the_resident_memory_is_that_of_a_process_and_not_of_a_page() {
        let bytes = resident_bytes(&File::open(STATUS).unwrap()).unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }
}
