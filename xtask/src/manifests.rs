//! `cargo xtask manifests`: everything under `deploy/` that is made from something else, and its checks.
//!
//! The Helm chart is the source. Helm renders it into the kustomize base and the objects of its components;
//! the chart's own copies of what lies elsewhere (the definitions of our resources, the rules of alerts, the
//! dashboard) are made first. Nothing
//! that is rendered is edited by hand: `--check` finds a difference of one byte.

use std::path::PathBuf;

use anyhow::{Result, bail};

use self::files::Files;
use crate::{build, process::step, setup, workspace::Workspace};

mod check;
mod files;
mod objects;
mod render;

/// The chart, the base and the components, from the workspace's root.
const CHART: &str = "deploy/helm/plainsight";
const BASE: &str = "deploy/kustomize/base";
const COMPONENTS: &str = "deploy/kustomize/components";
const OVERLAYS: &str = "deploy/kustomize/overlays";

/// Every value of the chart, and what comes of it; the detector's tests read that.
const EVERYTHING: &str = "deploy/helm/plainsight/ci/everything-values.yaml";
const EVERYTHING_RENDERED: &str = "detector/testdata/manifests/everything.yaml";

/// A component of kustomize, and the values of the chart that do the same.
struct Component {
    name: &'static str,
    values: &'static [&'static str],
}

const ALL_COMPONENTS: [Component; 11] = [
    Component { name: "admin-tls", values: &["admin.tls.secretName=plainsight-tls"] },
    Component { name: "dashboard", values: &["dashboard.enabled=true"] },
    Component { name: "istio", values: &["mesh.istio.enabled=true"] },
    Component { name: "linkerd", values: &["mesh.linkerd.enabled=true"] },
    Component { name: "linux-5.10", values: &["privileges.linux510=true"] },
    Component { name: "network-policy", values: &["networkPolicy.enabled=true"] },
    Component { name: "pod-monitor", values: &["podMonitor.enabled=true"] },
    Component { name: "prometheus-rule", values: &["prometheusRule.enabled=true"] },
    Component { name: "service-monitor", values: &["serviceMonitor.enabled=true"] },
    Component { name: "sys-admin", values: &["privileges.sysAdmin=true"] },
    Component { name: "unpinned", values: &["detector.pin=false"] },
];

/// Writes what is made, or with `only_check` compares it, and checks all of it.
pub(crate) fn run(workspace: &Workspace, only_check: bool) -> Result<()> {
    setup::ensure_manifests(workspace)?;
    let plainsight = build::plainsight(workspace)?;
    step("render the manifests", || {
        // The chart's copies come before what is rendered from it.
        let copies = render::copies(workspace, &plainsight)?;
        settle(workspace, &copies, only_check)?;
        settle(workspace, &render::rendered(workspace)?, only_check)
    })?;
    step("check the manifests", || check::run(workspace))
}

fn settle(workspace: &Workspace, files: &Files, only_check: bool) -> Result<()> {
    if !only_check {
        return files.write(workspace.root());
    }
    let stale: Vec<PathBuf> = files.stale(workspace.root());
    if !stale.is_empty() {
        let names: Vec<_> = stale.iter().map(|path| path.display().to_string()).collect();
        bail!("not what is rendered: {}: run `cargo xtask manifests`", names.join(", "));
    }
    Ok(())
}
