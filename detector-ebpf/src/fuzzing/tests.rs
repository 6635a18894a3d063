//! The corpus of the fuzzers, replayed.

use std::{
    fs,
    path::{Path, PathBuf},
    vec::Vec,
};

use super::{TARGETS, frames};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn every_promise_holds_on_the_whole_corpus() {
    for (target, entry) in TARGETS {
        for file in corpus(target) {
            // A panic's message stands behind the name of the file that it is about.
            std::println!("{}", file.display());
            entry(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_folder_of_the_corpus_is_of_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{}", name.display());
    }
}

#[test]
fn a_corpus_of_frames_holds_frames() {
    let frames: usize = corpus("track").iter().map(|file| frames(&fs::read(file).unwrap()).1.len()).sum();
    assert!(frames > 100, "{frames}");
}
