//! Owns `plainsight audit`.

use std::process::ExitCode;

use anyhow::Result;

use super::{FOUND, now, print, read};
use crate::{
    args::{AuditArgs, ReportFormat},
    audit::{self, Inventory, Options},
    outputs::audit::{Format, write},
};

/// Runs the audit.
///
/// # Errors
///
/// Nothing could be read, or the report could not be written.
pub fn audit(args: AuditArgs) -> Result<ExitCode> {
    let AuditArgs { manifests, format, fail_on, mcp_selector } = args;
    let read = read(&manifests)?;
    let errors = read.errors.len();
    let inventory = Inventory::new(read.objects, read.templates, mcp_selector.as_ref());
    let report = audit::audit(&inventory, &Options { now: now() });
    let format = match format {
        ReportFormat::Table => Format::Table,
        ReportFormat::Json => Format::Json,
        ReportFormat::Sarif => Format::Sarif,
        ReportFormat::Markdown => Format::Markdown,
    };
    print(&write(&report, errors, format))?;
    let Some(limit) = fail_on else { return Ok(ExitCode::SUCCESS) };
    // What could not be read may be what matters: a gate must not open for it.
    Ok(match report.worst() {
        Some(worst) if worst >= limit => ExitCode::from(FOUND),
        _ if errors > 0 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}
