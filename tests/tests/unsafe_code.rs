//! `unsafe` stands only where it must: a new place is a decision, made here.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Files with `unsafe` of our own: what the kernel runs, the layouts that it shares, the descriptors and system
/// calls of the datapath and of the harness's neighbours, and tests that count allocations, read a layout's bytes or
/// make system calls by their number.
const PLACES: &[&str] = &[
    "detector-ebpf/src/bench.rs",
    "detector-ebpf/src/edge.rs",
    "detector-ebpf/src/event.rs",
    "detector-ebpf/src/flow.rs",
    "detector-ebpf/src/programs.rs",
    "detector-ebpf/src/programs/skb.rs",
    "detector-ebpf/src/programs/store.rs",
    "detector-ebpf/src/tls.rs",
    "detector/src/datapath/bpf.rs",
    "detector/src/datapath/events.rs",
    "detector/src/datapath/info.rs",
    "detector/tests/store_memory.rs",
    "tests/src/neighbour.rs",
    "tests/tests/canary.rs",
    "tests/tests/list_memory.rs",
    "tests/tests/programs/kernel.rs",
    "tests/tests/sandbox/raw.rs",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Whether a line holds the keyword, outside of a comment and of a string.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let outside: String = code.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    outside.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[test]
fn the_keyword_is_told_from_words_and_comments() {
    for line in ["let a = unsafe { b };", "unsafe impl Pod for A {}", "#[unsafe(no_mangle)]"] {
        assert!(is_unsafe(line), "{line}");
    }
    for line in ["// unsafe", "#[expect(unsafe_code)]", "/// `unsafe` is"] {
        assert!(!is_unsafe(line), "{line}");
    }
}

#[test]
fn no_file_but_those_that_are_named_has_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for package in ["detector", "detector-ebpf", "tests", "xtask"] {
        sources(&root.join(package), &mut files);
    }
    assert!(files.len() > 100, "{} files", files.len());
    let found: BTreeSet<String> = files
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().lines().any(is_unsafe))
        .map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned())
        .collect();
    let places: BTreeSet<String> = PLACES.iter().map(|place| (*place).to_owned()).collect();
    assert_eq!(found, places, "a place that is new, or one that is no more");
}
