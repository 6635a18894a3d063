//! Plainsight's user-space half: loads the programs, gives their edges identities, judges them by policy,
//! and reports.
//!
//! Data flows one way: `datapath` → [`flows`] → [`policy`] → [`findings`] → [`outputs`], with [`cluster`]
//! joining at [`flows`] and [`policy`]. [`app`] ties them together; [`flows`], [`policy`] and [`findings`]
//! are pure. [`replay`] feeds the same [`flows`] from a capture, without the kernel.

pub mod admin;
pub mod app;
pub mod args;
pub mod audit;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod coverage;
pub mod datapath;
pub mod findings;
pub mod flows;
pub mod interfaces;
pub mod logging;
pub mod migration;
pub mod outputs;
pub mod policy;
pub mod preflight;
pub mod printable;
pub mod readiness;
pub mod replay;
pub mod sandbox;
#[cfg(test)]
mod testing;
pub mod top;
