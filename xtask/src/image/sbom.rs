//! Makes the SBOM: CycloneDX 1.5 from what cargo says that it links.
//!
//! `cargo-cyclonedx` writes beside each Cargo.toml and knows the host's crates alone. What is in the image is
//! more: the crates of the eBPF object, which are built for another target, the standard library and glibc.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{binary::Architecture, source::Commit};
use crate::{
    ebpf,
    json::{at, list, text},
    process,
};

/// A crate by cargo's id, with what it links.
struct Crate {
    name: String,
    version: String,
    licence: Option<String>,
    links: BTreeSet<String>,
}

pub(super) fn make(root: &Path, architecture: Architecture, commit: &Commit) -> Result<Vec<u8>> {
    let mut crates = linked(root, "detector", architecture.target())?;
    // cfg(target_arch = "bpf") holds for this target alone.
    crates.extend(linked(root, "detector-ebpf", "bpfel-unknown-none")?);
    let reference = |found: &Crate| format!("pkg:cargo/{}@{}", found.name, found.version);
    let mut components: Vec<Value> = crates
        .values()
        .map(|found| {
            let mut component = json!({
                "type": "library",
                "bom-ref": reference(found),
                "name": found.name,
                "version": found.version,
                "purl": reference(found),
            });
            if let (Some(licence), Some(fields)) = (&found.licence, component.as_object_mut()) {
                fields.insert("licenses".to_owned(), json!([{"expression": licence.replace('/', " OR ")}]));
            }
            component
        })
        .collect();
    let compiler = ebpf::Compiler::find(root)?;
    let standard = format!("pkg:generic/rust-std@{}", compiler.release);
    components.push(json!({
        "type": "library", "bom-ref": standard, "purl": standard, "name": "rust-std", "version": compiler.release,
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }));
    components.push(json!({
        "type": "library", "bom-ref": "pkg:generic/glibc", "purl": "pkg:generic/glibc", "name": "glibc",
        "description": "linked statically, from the machine that built the image",
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
    }));
    let dependencies: Vec<Value> = crates
        .values()
        .map(|found| {
            let mut links: Vec<String> =
                found.links.iter().filter_map(|id| crates.get(id)).map(reference).collect();
            links.sort();
            json!({"ref": reference(found), "dependsOn": links})
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": commit.created,
            "component": {
                "type": "container", "bom-ref": "image", "name": "plainsight", "version": version,
                "properties": [
                    {"name": "plainsight:architecture", "value": architecture.oci()},
                    {"name": "plainsight:revision", "value": commit.revision()},
                ],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    let mut written = serde_json::to_vec_pretty(&bom).context("write the SBOM")?;
    written.push(b'\n');
    Ok(written)
}

/// What a package of ours links for a target: itself and, from there on, every crate that is neither a test's,
/// nor a build script's, nor a macro.
fn linked(root: &Path, package: &str, target: &str) -> Result<BTreeMap<String, Crate>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target]);
    let metadata = process::output(cargo.current_dir(root))?;
    walk(&serde_json::from_str(&metadata).context("read `cargo metadata`")?, package)
}

fn walk(metadata: &Value, package: &str) -> Result<BTreeMap<String, Crate>> {
    let by_id = |pointer: &str| -> BTreeMap<String, &Value> {
        list(metadata, pointer).iter().map(|found| (text(found, "/id"), found)).collect()
    };
    let (packages, nodes) = (by_id("/packages"), by_id("/resolve/nodes"));
    let is_macro = |id: &String| {
        let targets = packages.get(id).map_or(&[][..], |found| list(found, "/targets"));
        targets.iter().any(|target| list(target, "/kind").contains(&json!("proc-macro")))
    };
    let own = |found: &Value| *at(found, "/name") == package && at(found, "/source").is_null();
    let start = packages.iter().find(|(_, found)| own(found));
    let mut open = vec![start.with_context(|| format!("cargo knows no package {package}"))?.0.clone()];
    let mut crates = BTreeMap::new();
    while let Some(id) = open.pop() {
        let (false, Some(found), Some(node)) = (crates.contains_key(&id), packages.get(&id), nodes.get(&id))
        else {
            continue;
        };
        let links: BTreeSet<String> = list(node, "/deps")
            .iter()
            .filter(|edge| list(edge, "/dep_kinds").iter().any(|kind| at(kind, "/kind").is_null()))
            .map(|edge| text(edge, "/pkg"))
            .filter(|id| !is_macro(id))
            .collect();
        open.extend(links.iter().cloned());
        let (name, version) = (text(found, "/name"), text(found, "/version"));
        let licence = at(found, "/license").as_str().map(str::to_owned);
        crates.insert(id, Crate { name, version, licence, links });
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::walk;

    #[test]
    fn only_what_is_linked_is_listed() {
        let package = |id: &str, kind: &str| json!({"id": id, "name": id, "version": "1", "license": "MIT", "source": null, "targets": [{"kind": [kind]}]});
        let edge = |id: &str, kind: Option<&str>| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("own", "bin"), package("linked", "lib"), package("derive", "proc-macro"),
                package("built-with", "lib"), package("tested-with", "lib"), package("below", "lib")],
            "resolve": {"nodes": [
                {"id": "own", "deps": [edge("linked", None), edge("derive", None), edge("built-with", Some("build")), edge("tested-with", Some("dev"))]},
                {"id": "linked", "deps": [edge("below", None)]},
                {"id": "below", "deps": [edge("linked", None)]},
                {"id": "derive", "deps": []}, {"id": "built-with", "deps": []}, {"id": "tested-with", "deps": []},
            ]},
        });
        let names: Vec<String> =
            walk(&metadata, "own").unwrap().into_values().map(|found| found.name).collect();
        assert_eq!(names, ["below", "linked", "own"]);
        assert!(walk(&metadata, "absent").is_err());
    }
}
