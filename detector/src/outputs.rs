//! Owns what leaves the process: JSON lines, metrics, and what is written to Kubernetes. Nothing else knows
//! JSON's field names, Prometheus, or the shape of Events and reports.

pub mod api;
pub mod audit;
pub mod explain;
pub mod kubernetes;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod printable;
