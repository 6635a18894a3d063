#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| detector_ebpf::fuzzing::stream(input));
