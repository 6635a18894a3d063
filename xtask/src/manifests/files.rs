//! Owns a set of files that are made: written, or compared with what is there.
//!
//! A folder that is named has made files only, so that one which is no longer made is found too.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The first line of a made file; a file without it in a folder of made ones was put there by hand.
pub(super) const MARK: &str =
    "# Made by `cargo xtask manifests`: change the chart under deploy/helm instead.";

/// Paths from the workspace's root, and what they hold.
#[derive(Debug, Default)]
pub(super) struct Files {
    made: BTreeMap<PathBuf, String>,
    folders: Vec<PathBuf>,
}

impl Files {
    pub(super) fn add(&mut self, path: impl Into<PathBuf>, text: &str) {
        self.made.insert(path.into(), format!("{MARK}\n{}\n", text.trim_end()));
    }

    /// Adds a copy of a file that has no room for a mark.
    pub(super) fn copy(&mut self, path: impl Into<PathBuf>, text: String) {
        self.made.insert(path.into(), text);
    }

    /// Made files in this folder that are not in the set are stale.
    pub(super) fn owns(&mut self, folder: impl Into<PathBuf>) {
        self.folders.push(folder.into());
    }

    /// Writes what differs, and removes what is no longer made.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        for path in self.stale(root) {
            let full = root.join(&path);
            let Some(text) = self.made.get(&path) else {
                fs::remove_file(&full).with_context(|| format!("remove {}", path.display()))?;
                eprintln!("    removed {}", path.display());
                continue;
            };
            if let Some(folder) = full.parent() {
                fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            }
            fs::write(&full, text).with_context(|| format!("write {}", path.display()))?;
            eprintln!("    wrote {}", path.display());
        }
        Ok(())
    }

    /// What is not there as it is made, or is there and not made.
    pub(super) fn stale(&self, root: &Path) -> Vec<PathBuf> {
        let differs = |(path, text): &(&PathBuf, &String)| {
            fs::read_to_string(root.join(path)).map_or(true, |there| there != **text)
        };
        let changed = self.made.iter().filter(differs).map(|(path, _)| path.clone());
        let left = self.folders.iter().flat_map(|folder| marked(root, folder));
        changed.chain(left.filter(|path| !self.made.contains_key(path))).collect()
    }
}

/// The made files in a folder, which need not exist.
fn marked(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries: io::Result<Vec<_>> = fs::read_dir(root.join(folder)).and_then(Iterator::collect);
    let names = entries.unwrap_or_default().into_iter().map(|entry| entry.file_name());
    let mut paths: Vec<_> = names
        .map(|name| folder.join(name))
        .filter(|path| {
            fs::read_to_string(root.join(path)).is_ok_and(|text| text.lines().next() == Some(MARK))
        })
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{Files, MARK};

    #[test]
    fn what_is_written_is_not_stale_and_a_byte_more_is() {
        let root = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        files.add("base/a.yaml", "kind: A\n\n");
        assert_eq!(files.stale(root.path()), [PathBuf::from("base/a.yaml")]);
        files.write(root.path()).unwrap();
        assert!(files.stale(root.path()).is_empty());
        let path = root.path().join("base/a.yaml");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{MARK}\nkind: A\n"));
        fs::write(&path, format!("{MARK}\nkind: A \n")).unwrap();
        assert_eq!(files.stale(root.path()), [PathBuf::from("base/a.yaml")]);
    }

    #[test]
    fn a_made_file_that_is_no_longer_made_goes_and_one_by_hand_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut before = Files::default();
        before.add("base/old.yaml", "kind: Old");
        before.write(root.path()).unwrap();
        fs::write(root.path().join("base/hand.yaml"), "kind: Hand\n").unwrap();
        let mut after = Files::default();
        after.owns("base");
        assert_eq!(after.stale(root.path()), [PathBuf::from("base/old.yaml")]);
        after.write(root.path()).unwrap();
        assert!(!root.path().join("base/old.yaml").exists());
        assert!(root.path().join("base/hand.yaml").exists());
    }
}
