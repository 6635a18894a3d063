//! The fuzzers' corpus through the loaded programs: the kernel says of every frame what the host says.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

#[path = "programs/compare.rs"]
mod compare;
#[expect(dead_code, reason = "made for tests/programs.rs; here frames are compared, and no more")]
#[path = "programs/kernel.rs"]
mod kernel;

use std::{
    fs,
    path::{Path, PathBuf},
};

use detector_ebpf::fuzzing;
use detector_tests::netns;

use compare::{Passed, compare};
use kernel::Kernel;

/// `BPF_PROG_TEST_RUN` wants an Ethernet header at least.
const SHORTEST: usize = 14;
/// And it wants a frame to fit into a page beside what the kernel keeps there.
const LONGEST: usize = 3500;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../detector-ebpf/fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

fn takes(frame: &[u8]) -> bool {
    (SHORTEST..=LONGEST).contains(&frame.len())
}

#[test]
fn every_frame_of_the_corpus_is_walked_in_the_kernel_as_on_the_host() {
    if !netns::require_root() {
        return;
    }
    let mut kernel = Kernel::load(u32::MAX);
    // Emptying the maps and comparing them costs far more than a frame.
    for files in corpus("walk").chunks(16) {
        let frames = files.iter().map(|file| (fs::read(file).unwrap(), true));
        let frames: Vec<Passed> = frames.filter(|(frame, _)| takes(frame)).collect();
        compare(&mut kernel, &frames, u32::MAX, &format!("{} and what follows it", files[0].display()));
    }
}

#[test]
fn every_connection_of_the_corpus_is_tracked_in_the_kernel_as_on_the_host() {
    if !netns::require_root() {
        return;
    }
    let [mut seen, mut sampled] = [0, u32::MAX].map(Kernel::load);
    for file in corpus("track") {
        let (sample_below, frames) = fuzzing::frames(&fs::read(&file).unwrap());
        let kernel = if sample_below == 0 { &mut seen } else { &mut sampled };
        let frames: Vec<Passed> = frames.into_iter().filter(|(frame, _)| takes(frame)).collect();
        compare(kernel, &frames, sample_below, &file.display().to_string());
    }
}
