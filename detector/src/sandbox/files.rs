//! Owns the files and TCP ports that are left after the start, by Landlock.
//!
//! A rule holds for a file or for all that is below a folder, as they are now. A file that is replaced, as tokens
//! and certificates are, is another one, so its folder is what is allowed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, NetPort, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
};

use super::Needs;

/// The newest Landlock whose rights are asked for; an older one gives what it has.
const NEWEST: ABI = ABI::V6;

/// What an older Landlock leaves open, and since when it does not.
const SINCE: [(ABI, &str); 2] =
    [(ABI::V4, "TCP ports (Linux 6.7)"), (ABI::V6, "signals and abstract sockets (Linux 6.12)")];

/// What glibc reads to resolve a name and rustls to trust a certificate; how many processors there are, for maps
/// that have a value for each; and this process itself, for a panic's backtrace.
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
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
    "/sys/devices/system/cpu",
    "/proc/self",
];

/// Where rustls is told to find roots instead.
const ROOTS: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Closes off every file and port but those that are needed; answers what this kernel leaves open all the same.
pub(super) fn close(needs: &Needs) -> Result<Vec<&'static str>, String> {
    match restrict(needs).map_err(|error| error.to_string())? {
        LandlockStatus::NotImplemented => {
            Err("no Landlock: the kernel is older than 5.13 or built without, or the container runtime refuses it"
                .to_owned())
        }
        LandlockStatus::NotEnabled => {
            Err("no Landlock: it is off, and comes with landlock in the list of the boot option lsm".to_owned())
        }
        LandlockStatus::Available { effective_abi, .. } => Ok(left_open(effective_abi)),
    }
}

fn left_open(abi: ABI) -> Vec<&'static str> {
    SINCE.iter().filter(|(since, _)| abi < *since).map(|(_, what)| *what).collect()
}

fn restrict(needs: &Needs) -> Result<LandlockStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Pins, and the folders that note whose qdisc is ours.
    let pins = read | AccessFs::RemoveFile | AccessFs::MakeReg | AccessFs::RemoveDir | AccessFs::MakeDir;
    let reads = needs.reads.iter().cloned().chain(ROOTS.iter().filter_map(env::var_os).map(PathBuf::from));
    let system = READS.iter().map(Path::new);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if !needs.connects {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let status = rules
        .create()?
        .add_rules(path_beneath_rules(READS, read))?
        .add_rules(path_beneath_rules(env::current_exe().ok(), read))?
        .add_rules(path_beneath_rules(system.filter_map(behind_link), read))?
        .add_rules(path_beneath_rules(reads.flat_map(|path| places(&path)), read))?
        .add_rules(path_beneath_rules(needs.pins.iter(), pins))?
        .add_rule(NetPort::new(needs.listen, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(status.landlock)
}

/// Where a file that is given may stand next time. It is in its folder and in the one that a link leads to, for a
/// file is replaced by another of its name; and where its folder is a link itself, that one's own folder, for the
/// link may be. A folder stands for itself.
///
/// What stands in the root or right below it is not swapped by a link, and nobody wants to open all of it.
fn places(path: &Path) -> Vec<PathBuf> {
    let folder = if path.is_dir() { path.to_owned() } else { parent(path) };
    let behind = if path.is_dir() { None } else { fs::canonicalize(path).ok().map(|path| parent(&path)) };
    let of_link = folder
        .is_symlink()
        .then(|| parent(&folder))
        .filter(|above| fs::canonicalize(above).is_ok_and(|above| above.components().count() > 2));
    let mut all = vec![folder];
    all.extend(behind.into_iter().chain(of_link));
    all.dedup();
    all
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
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
    use std::{fs, os::unix::fs::symlink, path::Path};

    use landlock::ABI;

    use super::{left_open, places};

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
        assert_eq!(places(&volume.join("missing")), vec![volume]);
        // A folder that is a link may be swapped for its neighbour.
        let current = folder.path().join("current");
        symlink(&data, &current).unwrap();
        let real = data.canonicalize().unwrap();
        assert_eq!(places(&current.join("token")), [current.clone(), real, folder.path().to_owned()]);
        assert_eq!(places(&current), [current.clone(), folder.path().to_owned()]);
    }

    #[test]
    fn the_root_is_never_allowed_for_a_link_in_it() {
        for link in ["/bin", "/lib", "/var/run"] {
            assert!(places(Path::new(link)).iter().all(|place| place == Path::new(link)), "{link}");
        }
    }

    #[test]
    fn an_older_landlock_leaves_open_what_it_does_not_know() {
        assert_eq!(left_open(ABI::V1).len(), 2);
        assert_eq!(left_open(ABI::V5), ["signals and abstract sockets (Linux 6.12)"]);
        assert!(left_open(ABI::V6).is_empty() && left_open(ABI::V10).is_empty());
    }
}
