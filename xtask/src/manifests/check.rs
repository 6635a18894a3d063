//! Checks what is under `deploy/` with the programs that users have: Helm, kubectl, and the schemas of
//! Kubernetes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    ALL_COMPONENTS, BASE, CHART, COMPONENTS, EVERYTHING, EVERYTHING_RENDERED, OVERLAYS, objects, render,
};
use crate::{ebpf, process, setup::kubernetes, workspace::Workspace};

/// The oldest version of Kubernetes that the chart declares, and the newest that there are schemas of.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    versions(workspace.root())?;
    lint(workspace)?;
    let mut built: Vec<PathBuf> = vec![workspace.root().join(EVERYTHING_RENDERED)];
    let scratch = ebpf::target(workspace.root()).join("manifests");
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let mut keep = |name: &str, text: &str| {
        let path = scratch.join(format!("{name}.yaml"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        built.push(path);
        Ok::<_, anyhow::Error>(())
    };

    let base = kustomize(workspace, BASE)?;
    same("the base", &base, &render::template(workspace, &[])?)?;
    keep("base", &base)?;
    for component in &ALL_COMPONENTS {
        let with = kustomize_component(workspace, component.name)?;
        let helm = render::template(workspace, &render::set(component.values))?;
        same(&format!("component {}", component.name), &with, &helm)?;
        keep(component.name, &with)?;
    }
    for overlay in folders(&workspace.root().join(OVERLAYS))? {
        keep(&format!("overlay-{overlay}"), &kustomize(workspace, &format!("{OVERLAYS}/{overlay}"))?)?;
    }
    schemas(workspace, &built)
}

/// The chart's versions are the workspace's.
fn versions(root: &Path) -> Result<()> {
    let chart = root.join(CHART).join("Chart.yaml");
    let text = fs::read_to_string(&chart).with_context(|| format!("read {}", chart.display()))?;
    let chart: serde_json::Value = serde_saphyr::from_str(&text).context("read Chart.yaml")?;
    for field in ["version", "appVersion"] {
        let found = chart.get(field).and_then(serde_json::Value::as_str);
        let own = env!("CARGO_PKG_VERSION");
        ensure!(
            found == Some(own),
            "{field} in Chart.yaml is {found:?}, and the workspace's version is {own}"
        );
    }
    Ok(())
}

fn lint(workspace: &Workspace) -> Result<()> {
    for values in [&[][..], &["--values", EVERYTHING]] {
        let mut helm = Command::new(kubernetes::helm(workspace));
        helm.args(["lint", CHART, "--strict", "--quiet"]).args(values).current_dir(workspace.root());
        process::output(&mut helm)?;
    }
    Ok(())
}

/// What kubectl builds of a folder.
fn kustomize(workspace: &Workspace, folder: &str) -> Result<String> {
    let mut kubectl = Command::new(kubernetes::kubectl(workspace));
    process::output(kubectl.args(["kustomize", folder]).current_dir(workspace.root()))
}

/// The base with one component, built in a folder beside ours: kustomize knows components in files only.
fn kustomize_component(workspace: &Workspace, name: &str) -> Result<String> {
    let overlay = ebpf::target(workspace.root()).join("manifests/overlay");
    fs::create_dir_all(&overlay).with_context(|| format!("create {}", overlay.display()))?;
    let up = |path: &str| -> Result<String> {
        let root = workspace.root().canonicalize().context("find the workspace")?;
        let depth = overlay.canonicalize().context("find the folder of overlays")?;
        let below = depth.strip_prefix(&root).context("the target folder lies outside of the workspace")?;
        Ok(format!("{}{path}", "../".repeat(below.components().count())))
    };
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{}]\ncomponents: [{}]\n",
        up(BASE)?,
        up(&format!("{COMPONENTS}/{name}"))?,
    );
    let file = overlay.join("kustomization.yaml");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    kustomize(workspace, &overlay.display().to_string())
}

/// Fails unless kustomize and Helm make the same objects. The namespace is kustomize's alone.
fn same(what: &str, kustomize: &str, helm: &str) -> Result<()> {
    let mut kustomize = objects::all(kustomize).with_context(|| format!("{what} of kustomize"))?;
    kustomize.retain(|object| object.kind() != "Namespace");
    let helm = objects::all(helm).with_context(|| format!("{what} of Helm"))?;
    ensure!(!helm.is_empty(), "{what}: Helm makes nothing");
    let differences = objects::differences(&kustomize, &helm);
    if !differences.is_empty() {
        bail!("{what}: kustomize and Helm differ:\n  {}", differences.join("\n  "));
    }
    Ok(())
}

/// Holds objects of Kubernetes' own kinds against their schemas; unknown fields are errors.
fn schemas(workspace: &Workspace, files: &[PathBuf]) -> Result<()> {
    for version in VERSIONS {
        let mut validate = Command::new(kubernetes::validator(workspace));
        validate.args(["--strict", "--quiet", "--no-warn", "--kubernetes-version", version]).args(files);
        process::output(&mut validate).with_context(|| format!("by the schemas of Kubernetes {version}"))?;
    }
    Ok(())
}

fn folders(parent: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(parent).with_context(|| format!("list {}", parent.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
