//! Owns `plainsight explain`.

use anyhow::{Result, bail};

use super::{declared, now, print};
use crate::{
    args::{ExplainArgs, ExplainFormat},
    audit::{self, Inventory},
    outputs::explain::{json, text},
};

/// Explains a pod.
///
/// # Errors
///
/// Nothing could be read, there is no such pod, or the answer could not be written.
pub fn explain(args: ExplainArgs) -> Result<()> {
    let ExplainArgs { pod, port, namespace, declared: source, format } = args;
    let read = declared::read(&source)?;
    let inventory = Inventory::new(read.objects, read.templates, None);
    let (namespace, name) = match pod.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (namespace.as_str(), pod.as_str()),
    };
    let Some(explanation) = audit::explain(&inventory, namespace, name, port, now()) else {
        bail!("no pod or workload {namespace}/{name} is known");
    };
    print(&match format {
        ExplainFormat::Text => text(&explanation),
        ExplainFormat::Json => json(&explanation),
    })
}
