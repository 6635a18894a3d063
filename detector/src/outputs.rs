//! Owns what leaves the process: JSON lines, metrics, and what is written to Kubernetes. Nothing else knows
//! JSON's field names, Prometheus, or the shape of Events and reports.

pub mod api;
pub mod audit;
pub mod explain;
pub mod json;
pub mod kubernetes;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod migration;
pub(crate) mod observed;
pub mod one_line;
pub(crate) mod rows;

pub use crate::printable;

#[cfg(test)]
mod hostile;
