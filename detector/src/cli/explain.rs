//! Owns `plainsight explain`.

use anyhow::{Result, bail};

use super::{now, print, read};
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
    let ExplainArgs { pod, port, namespace, manifests, format } = args;
    let read = read(&manifests)?;
    let inventory = Inventory::new(read.objects, read.templates, None);
    let (namespace, name) = match pod.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (namespace.as_str(), pod.as_str()),
    };
    let Some(explanation) = audit::explain(&inventory, namespace, name, port, now()) else {
        bail!("no pod or workload {namespace}/{name} is in the manifests");
    };
    print(&match format {
        ExplainFormat::Text => text(&explanation),
        ExplainFormat::Json => json(&explanation),
    })
}
