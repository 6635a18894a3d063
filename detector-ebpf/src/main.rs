//! The eBPF object `detector-bpf`: maps and programs around the library's tracker.
//!
//! On any other target this is an empty program, so that `cargo build --workspace --all-targets` works on
//! the host.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
