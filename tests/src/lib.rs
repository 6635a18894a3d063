//! Harness of the scenarios, and the scenarios that tests and demo share.
//!
//! Nothing here depends on the detector's own crates: the daemon is met as a user meets it, as a program
//! with flags, output lines and an HTTP port. Tests panic; the harness returns errors, so that the demo can
//! say in one line what went wrong.

pub mod apiserver;
pub mod bpffs;
pub mod clients;
pub mod daemon;
pub mod exchange;
pub mod frames;
pub mod manifests;
pub mod mesh;
pub mod metrics;
pub mod nat;
pub mod neighbour;
pub mod netns;
pub mod node;
pub mod pcap;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod record;
pub mod scenario;
pub mod segment;
pub mod sniffer;
pub mod soak;
pub mod vm;
pub mod wait;
