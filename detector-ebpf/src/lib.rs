//! Plainsight's classifier and flow tracker, and the layouts that kernel and user space share.
//!
//! The same source is compiled for BPF, where `main.rs` wraps it in programs and maps, and for the host,
//! where replay, tests and fuzzing call it. Nothing here does I/O, allocates, or indexes so that it can
//! panic; every loop has a constant bound that the verifier can see.
#![cfg_attr(not(any(test, feature = "host")), no_std)]

pub mod automaton;
pub mod budget;
pub mod counter;
pub mod edge;
pub mod event;
pub mod evidence;
pub mod flow;
#[cfg(any(test, feature = "host"))]
pub mod fuzzing;
#[cfg(any(test, feature = "host"))]
pub mod host;
#[cfg(any(test, feature = "host"))]
pub mod layout;
pub mod method;
pub mod names;
pub mod packet;
pub mod scan;
pub mod tls;
pub mod track;
pub mod verdict;
