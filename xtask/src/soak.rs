//! `cargo xtask soak`: hours of what a node goes through, and the question whether the daemon's books add up.
//!
//! The scenario and what must hold are the tests' own; here it runs for as long as one likes, with progress.

use std::{path::Path, time::Duration};

use anyhow::Result;
use detector_tests::{
    soak::{self, Sample},
    wait,
};

use crate::interrupt;

pub(crate) fn run(plainsight: &Path, minutes: u32) -> Result<()> {
    wait::end_when(|| interrupt::raised().is_some());
    eprintln!("    minutes  resident KiB   flows   edges  pods gone  API faults  connections  verdicts");
    let mut first = None;
    let last = soak::run(plainsight, Duration::from_secs(u64::from(minutes) * 60), |sample| {
        let Sample { at, resident, flows, edges, pods, faults, made, verdicts } = *sample;
        first.get_or_insert(resident);
        let minutes = at.as_secs_f64() / 60.0;
        eprintln!(
            "    {minutes:>7.1}  {resident:>12}  {flows:>6}  {edges:>6}  {pods:>9}  {faults:>10}  {made:>11}  \
             {verdicts:>8}"
        );
    })?;
    let Sample { resident, pods, faults, made, .. } = last;
    println!(
        "{made} connections, {pods} pods that came and went, {faults} faults of the API server in {minutes} min: \
         the books add up. Resident memory: {} KiB at first, {resident} KiB at the end.",
        first.unwrap_or(resident)
    );
    Ok(())
}
