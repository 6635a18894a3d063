//! Owns the folder of pins: what outlives the daemon, and who may use it.
//!
//! `links/` has a link for each interface and direction, a folder `maps-…` the maps of one layout, and `qdiscs/`
//! an empty folder for each interface whose clsact qdisc a daemon has made. One process at a time has the folder,
//! by a lock that the kernel takes back however the process ends: a ring buffer with two readers would lose
//! events.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use detector_ebpf::layout;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::DatapathConfig;

const LINKS: &str = "links";
const MAPS: &str = "maps-";
const QDISCS: &str = "qdiscs";
/// Only the owner may open what is pinned.
const MODE: u32 = 0o700;

/// The folder of pins, ours alone until this is dropped.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
    lock: Flock<File>,
}

/// The folder of pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// Pins can be on a BPF file system only.
    #[error("{} is on no BPF file system", path.display())]
    NoBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("another daemon holds the pins at {}; end it first", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The kernel refused to list or remove filters of clsact.
    #[error("remove the filters of clsact")]
    Filters {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What [`Pins::remove`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unpinned {
    /// Links, each of one direction of an interface.
    pub(super) links: usize,
    /// Maps.
    pub(super) maps: usize,
}

impl Pins {
    /// Takes the folder, makes it if it is missing, and waits for up to `patience` while another process has it.
    ///
    /// # Errors
    ///
    /// It is on no BPF file system, cannot be made, or another process keeps it.
    pub fn open(folder: &Path, patience: Duration) -> Result<Self, PinsError> {
        let parent = folder.parent().unwrap_or(folder);
        if !is_bpffs(parent) && !is_bpffs(folder) {
            return Err(PinsError::NoBpffs { path: folder.to_owned() });
        }
        let deadline = Instant::now() + patience;
        let mut told = false;
        loop {
            make(folder)?;
            if let Some(pins) = Self::try_lock(folder)? {
                return Ok(pins);
            }
            if Instant::now() >= deadline {
                return Err(PinsError::Busy { path: folder.to_owned() });
            }
            if !told {
                tracing::info!(folder = %folder.display(), ?patience, "waiting for the daemon that holds the pins to end");
                told = true;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Takes the folder if it is there and free; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// Another process has it, or the kernel refuses.
    pub fn existing(folder: &Path) -> Result<Option<Self>, PinsError> {
        match folder.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) if !is_bpffs(folder) => Err(PinsError::NoBpffs { path: folder.to_owned() }),
            Ok(true) => match Self::try_lock(folder)? {
                Some(pins) => Ok(Some(pins)),
                None => Err(PinsError::Busy { path: folder.to_owned() }),
            },
            Err(source) => Err(failure("look for", folder)(source)),
        }
    }

    /// Locks the folder itself; a file of its own could not be made on a BPF file system.
    fn try_lock(folder: &Path) -> Result<Option<Self>, PinsError> {
        let opened = File::open(folder).map_err(failure("open", folder))?;
        let lock = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(failure("lock", folder)(errno.into())),
        };
        // The last one to have it may have removed it meanwhile.
        let same = lock.metadata().and_then(|ours| {
            let there = fs::metadata(folder)?;
            Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        });
        Ok(same.unwrap_or(false).then(|| Self { folder: folder.to_owned(), lock }))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The pin of a link.
    pub(super) fn link(&self, ifindex: u32, direction: &str) -> PathBuf {
        self.folder.join(LINKS).join(format!("{ifindex}-{direction}"))
    }

    /// Every pinned link: interface, direction, path.
    pub(super) fn links(&self) -> Result<Vec<(u32, String, PathBuf)>, PinsError> {
        let folder = self.folder.join(LINKS);
        make(&folder)?;
        let name = |path: &PathBuf| {
            let (ifindex, direction) = path.file_name()?.to_str()?.split_once('-')?;
            Some((ifindex.parse().ok()?, direction.to_owned(), path.clone()))
        };
        Ok(list(&folder)?.iter().filter_map(name).collect())
    }

    /// Notes that the clsact qdisc of an interface is ours. A note that cannot be made leaves an empty qdisc
    /// behind one day, which does nothing.
    pub(super) fn remember_qdisc(&self, ifindex: u32) {
        let made = make(&self.folder.join(QDISCS)).and_then(|()| make(&self.qdisc(ifindex)));
        if let Err(error) = made {
            tracing::debug!(ifindex, %error, "the qdisc will not be known for ours");
        }
    }

    /// Whether the clsact qdisc of an interface was made by this daemon or one before.
    pub(super) fn has_qdisc(&self, ifindex: u32) -> bool {
        self.qdisc(ifindex).is_dir()
    }

    pub(super) fn forget_qdisc(&self, ifindex: u32) {
        let _never_noted = fs::remove_dir(self.qdisc(ifindex));
    }

    /// The interfaces whose clsact qdisc is ours.
    pub(super) fn qdiscs(&self) -> Vec<u32> {
        let noted = list(&self.folder.join(QDISCS)).unwrap_or_default();
        noted.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
    }

    fn qdisc(&self, ifindex: u32) -> PathBuf {
        self.folder.join(QDISCS).join(ifindex.to_string())
    }

    /// The folder of maps of this build and these sizes.
    pub(super) fn maps(&self, config: &DatapathConfig) -> PathBuf {
        let DatapathConfig { max_flows, max_edges, .. } = config;
        self.folder.join(format!("{MAPS}{:016x}-{max_flows}-{max_edges}", layout::fingerprint()))
    }

    /// The folders of maps of other builds or sizes.
    pub(super) fn other_maps(&self, own: &Path) -> Result<Vec<PathBuf>, PinsError> {
        let is_maps = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(MAPS))
        };
        Ok(list(&self.folder)?.into_iter().filter(|path| path != own && is_maps(path)).collect())
    }

    /// Whether the maps in a folder mean what ours mean, whatever their sizes.
    pub(super) fn is_readable(maps: &Path) -> bool {
        let prefix = format!("{MAPS}{:016x}-", layout::fingerprint());
        maps.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
    }

    /// Removes everything that is pinned, and the folder. What the links held is detached by that.
    ///
    /// # Errors
    ///
    /// Something cannot be removed.
    pub(super) fn remove(self) -> Result<Unpinned, PinsError> {
        let Self { folder, lock } = self;
        let mut removed = Unpinned::default();
        for path in list(&folder)? {
            let in_links = path.ends_with(LINKS);
            if path.ends_with(QDISCS) {
                for mark in list(&path)? {
                    fs::remove_dir(&mark).map_err(failure("remove", &mark))?;
                }
                fs::remove_dir(&path).map_err(failure("remove", &path))?;
            } else if path.is_dir() {
                let count = remove_folder(&path)?;
                *(if in_links { &mut removed.links } else { &mut removed.maps }) += count;
            } else {
                fs::remove_file(&path).map_err(failure("remove", &path))?;
            }
        }
        fs::remove_dir(&folder).map_err(failure("remove", &folder))?;
        drop(lock);
        Ok(removed)
    }
}

/// Removes a folder of pins; answers how many there were.
pub(super) fn remove_folder(folder: &Path) -> Result<usize, PinsError> {
    let pins = list(folder)?;
    for path in &pins {
        fs::remove_file(path).map_err(failure("remove", path))?;
    }
    fs::remove_dir(folder).map_err(failure("remove", folder))?;
    Ok(pins.len())
}

/// Makes a folder that may be there.
pub(super) fn make(folder: &Path) -> Result<(), PinsError> {
    match DirBuilder::new().mode(MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failure("make", folder)(error)),
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, PinsError> {
    let failed = failure("list", folder);
    fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect()).map_err(failed)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn failure(action: &'static str, path: &Path) -> impl Fn(io::Error) -> PinsError {
    let path = path.to_owned();
    move |source| PinsError::Io { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::{Pins, PinsError};

    #[test]
    fn a_folder_on_an_ordinary_file_system_is_refused_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pins");
        let error = Pins::open(&path, Duration::ZERO).unwrap_err();
        assert!(matches!(error, PinsError::NoBpffs { .. }), "{error}");
        assert!(!path.exists());
        assert!(Pins::existing(&path).unwrap().is_none());
    }

    #[test]
    fn maps_of_another_build_are_not_read() {
        let own = format!("/x/maps-{:016x}-64-64", detector_ebpf::layout::fingerprint());
        assert!(Pins::is_readable(Path::new(&own)));
        assert!(!Pins::is_readable(Path::new("/x/maps-0000000000000000-64-64")));
        assert!(!Pins::is_readable(Path::new("/x/links")));
    }
}
