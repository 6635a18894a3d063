//! The eBPF object `detector-bpf`. On any other target this is an empty program, so that
//! `cargo build --workspace --all-targets` works on the host.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
