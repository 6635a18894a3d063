//! The daemon among neighbours: other programs on the same hooks, interfaces that are renamed, moved, made anew or
//! come and go by the hundred. What it says of its coverage is true throughout, nothing is left behind, and what
//! passes is, to the byte, what passes without it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test panics on what it does not expect")]

#[path = "neighbours/churn.rs"]
mod churn;
#[path = "neighbours/gap.rs"]
mod gap;
#[path = "neighbours/hooks.rs"]
mod hooks;
#[path = "neighbours/interfaces.rs"]
mod interfaces;
#[path = "neighbours/rig.rs"]
mod rig;
#[path = "restart/traffic.rs"]
mod stream;
#[path = "neighbours/traffic.rs"]
mod traffic;
#[path = "neighbours/xdp.rs"]
mod xdp;
