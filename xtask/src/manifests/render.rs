//! Renders the chart, and makes its copies of what lies elsewhere.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    ALL_COMPONENTS, BASE, CHART, COMPONENTS, EVERYTHING, EVERYTHING_RENDERED, files::Files, objects,
};
use crate::{process, setup::kubernetes, workspace::Workspace};

/// The release's name and namespace in what is rendered.
const RELEASE: &str = "plainsight";

/// What the chart has copies of.
const RULES: &str = "deploy/alerts/plainsight.rules.yaml";
const DASHBOARD: &str = "deploy/dashboards/plainsight.json";

/// The chart's copies: Helm reads no file outside of it.
pub(super) fn copies(workspace: &Workspace, plainsight: &Path) -> Result<Files> {
    let mut files = Files::default();
    let folder = PathBuf::from(CHART).join("files/crds");
    let definitions = process::output(Command::new(plainsight).arg("crds"))?;
    for text in definitions.split("---\n").filter(|text| !text.trim().is_empty()) {
        let definition = objects::one(text).context("read `plainsight crds`")?;
        files.add(folder.join(format!("{}.yaml", definition.name())), text);
    }
    files.owns(folder);
    for path in [RULES, DASHBOARD] {
        let text = fs::read_to_string(workspace.root().join(path)).with_context(|| format!("read {path}"))?;
        let name = path.rsplit('/').next().unwrap_or_default();
        files.copy(PathBuf::from(CHART).join("files").join(name), text);
    }
    Ok(files)
}

/// The base, the components' objects, and everything at once for the tests.
pub(super) fn rendered(workspace: &Workspace) -> Result<Files> {
    let mut files = Files::default();
    let base = by_template(&template(workspace, &[])?)?;
    for (name, text) in &base {
        files.add(PathBuf::from(BASE).join(name), text);
    }
    files.owns(BASE);
    for component in &ALL_COMPONENTS {
        let folder = PathBuf::from(COMPONENTS).join(component.name);
        for (name, text) in by_template(&template(workspace, &set(component.values))?)? {
            // What the base has too is changed by a patch, if at all.
            if !base.contains_key(&name) {
                files.add(folder.join(name), &text);
            }
        }
        files.owns(folder);
    }
    files.add(EVERYTHING_RENDERED, &template(workspace, &["--values".to_owned(), EVERYTHING.to_owned()])?);
    Ok(files)
}

/// Arguments of Helm for values.
pub(super) fn set(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| format!("--set={value}")).collect()
}

/// What Helm makes of the chart.
pub(super) fn template(workspace: &Workspace, args: &[String]) -> Result<String> {
    let mut helm = Command::new(kubernetes::helm(workspace));
    helm.args(["template", RELEASE, CHART, "--namespace", RELEASE]).args(args);
    process::output(helm.current_dir(workspace.root()))
}

/// The documents of a rendered chart by the template that each is from.
fn by_template(rendered: &str) -> Result<BTreeMap<String, String>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for document in rendered.split("---\n").filter(|document| !document.trim().is_empty()) {
        let source = document.split_once('\n').and_then(|(line, rest)| {
            Some((line.strip_prefix("# Source: ")?.rsplit('/').next()?.to_owned(), rest))
        });
        let Some((name, text)) = source else { bail!("a document of Helm's names no template:\n{document}") };
        let text = text.trim_end();
        match files.get_mut(&name) {
            Some(file) => {
                file.push_str("\n---\n");
                file.push_str(text);
            }
            None => {
                files.insert(name, text.to_owned());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::by_template;

    #[test]
    fn documents_of_one_template_come_into_one_file() {
        let text = "---\n# Source: c/templates/a.yaml\nkind: A\n---\n# Source: c/templates/b.yaml\nkind: B\n\n---\n# Source: c/templates/a.yaml\nkind: C\n";
        let files = by_template(text).unwrap();
        assert_eq!(files["a.yaml"], "kind: A\n---\nkind: C");
        assert_eq!(files["b.yaml"], "kind: B");
        assert!(by_template("---\nkind: A\n").is_err());
    }
}
