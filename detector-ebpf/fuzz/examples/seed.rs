//! Makes the first corpus from the captures of the tests: their frames, and what each side of a connection says.
//!
//! `cargo run --example seed`; what is in the corpus already stays.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use detector_ebpf::packet::{Frame, Segment, walk};
use detector_tests::pcap;

/// Bytes of a stream that one seed holds, and of an input of frames.
const LONGEST: usize = 6000;

/// Bits of the byte before a frame, and those of settings, as `detector_ebpf::fuzzing` reads them.
const RAW: u8 = 1 << 1;
const SAMPLE: u8 = 1 << 0;

fn main() {
    let mut names: Vec<String> = fs::read_dir(pcap::folder())
        .expect("the captures")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(".pcap"))
        .collect();
    names.sort();
    for name in names {
        let frames: Vec<Vec<u8>> =
            pcap::read(&name).expect("a capture").into_iter().map(|captured| captured.frame).collect();
        seed(name.trim_end_matches(".pcap"), &frames);
    }
}

fn seed(name: &str, frames: &[Vec<u8>]) {
    let mut streams: BTreeMap<(u16, u16), Vec<u8>> = BTreeMap::new();
    let mut inputs: BTreeMap<(u16, u16), Vec<u8>> = BTreeMap::new();
    for frame in frames {
        let Ok(segment) = walk(&Frame(frame)) else {
            continue;
        };
        let Segment { source_port, destination_port, payload_at, .. } = segment;
        streams.entry((source_port, destination_port)).or_default().extend(&frame[payload_at as usize..]);
        let low = (source_port.min(destination_port), source_port.max(destination_port));
        let input = inputs.entry(low).or_insert_with(|| vec![0]);
        let frame = &frame[..frame.len().min(1400)];
        input.push(RAW | u8::from(source_port < destination_port));
        input.extend(u16::try_from(frame.len()).expect("a short frame").to_le_bytes());
        input.extend(frame);
    }
    for (index, frame) in frames.iter().take(6).enumerate() {
        write("walk", &format!("{name}-{index}"), &frame[..frame.len().min(100)]);
    }
    for (index, stream) in streams.values().filter(|stream| !stream.is_empty()).enumerate() {
        let stream = &stream[..stream.len().min(LONGEST)];
        let cut = [&[0, 2, 5, 0, 90, 0], stream].concat();
        write("stream", &format!("{name}-{index}"), &cut);
        if let Some(rest) = stream.strip_prefix(&[0x16, 3]) {
            let server = rest.get(3) == Some(&2);
            write(
                "hello",
                &format!("{name}-{index}"),
                &[&[u8::from(server) | 3 << 3, 1, 60, 0], &stream[11..]].concat(),
            );
        }
    }
    for (index, input) in inputs.values().enumerate() {
        let mut input = input[..input.len().min(LONGEST)].to_vec();
        write("track", &format!("{name}-{index}"), &input);
        input[0] = SAMPLE;
        write("track", &format!("{name}-{index}-sampled"), &input);
    }
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the corpus");
    fs::write(folder.join(name), bytes).expect("a seed");
}
