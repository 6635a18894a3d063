//! Owns what leaves the process: JSON lines and metrics. Nothing else knows JSON's field names or Prometheus.

pub mod api;
pub mod audit;
pub mod explain;
pub mod lines;
pub mod log;
pub mod metrics;
