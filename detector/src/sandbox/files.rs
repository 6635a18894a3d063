//! Owns the files that are left after the start, by Landlock.
//!
//! A rule holds for a file or for all that is below a folder, as they are now. A file that is replaced, as tokens
//! and certificates are, is another one, so its folder is what is allowed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Needs;

/// The newest Landlock whose rights are asked for; an older one gives what it has.
const NEWEST: ABI = ABI::V6;

/// What glibc reads to resolve a name and rustls to trust a certificate; how many processors there are, for maps
/// that have a value for each; and this process itself, for metrics.
const READS: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/lib/ssl",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
    "/sys/devices/system/cpu",
    "/proc/self",
    "/proc/sys",
    "/proc/stat",
    "/proc/meminfo",
];

/// Closes off every file but those that are needed.
pub(super) fn close(needs: &Needs) -> Result<(), String> {
    let enforced = restrict(needs).map_err(|error| error.to_string())?;
    match enforced {
        RulesetStatus::NotEnforced => Err("the kernel has no Landlock".to_owned()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn restrict(needs: &Needs) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let pins = read | AccessFs::RemoveFile | AccessFs::MakeReg;
    let reads = needs.reads.iter().map(PathBuf::as_path);
    let system = READS.iter().map(Path::new);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(READS, read))?
        .add_rules(path_beneath_rules(system.filter_map(behind_link), read))?
        .add_rules(path_beneath_rules(reads.flat_map(places), read))?
        .add_rules(path_beneath_rules(needs.pins.iter(), pins))?
        .add_rule(NetPort::new(needs.listen, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Where a file that is given may stand next time: in its folder, and in the folder that a link leads to. A folder
/// stands for itself.
fn places(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return vec![path.to_owned()];
    }
    let folder = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    };
    let behind = fs::canonicalize(path).ok().map(|path| folder(&path));
    [folder(path)].into_iter().chain(behind).collect()
}

/// The folder that a link leads to: its file is replaced there.
fn behind_link(path: &Path) -> Option<PathBuf> {
    if !path.is_symlink() || path.is_dir() {
        return None;
    }
    fs::canonicalize(path).ok()?.parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::places;

    #[test]
    fn a_file_is_allowed_by_its_folder_and_by_the_one_that_it_links_to() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, data) = (folder.path().join("volume"), folder.path().join("data"));
        fs::create_dir(&volume).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("token"), "x").unwrap();
        symlink(data.join("token"), volume.join("token")).unwrap();
        assert_eq!(places(&volume.join("token")), [volume.clone(), data.canonicalize().unwrap()]);
        assert_eq!(places(&volume), vec![volume.clone()]);
        assert_eq!(places(&volume.join("missing")), [volume]);
    }
}
