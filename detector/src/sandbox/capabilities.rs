//! Owns the capabilities that are left after the start.

use std::{collections::HashSet, fs::File, io, path::PathBuf};

use caps::{CapSet, Capability, CapsHashSet};

use super::Needs;

/// Ports below this are for the privileged.
const UNPRIVILEGED: u16 = 1024;

/// Drops every capability that nothing needs any more; answers what is left.
pub(super) fn drop_all_but(needs: &Needs) -> Result<Vec<String>, String> {
    drop_inner(needs).map_err(|error| error.to_string())
}

fn drop_inner(needs: &Needs) -> Result<Vec<String>, caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let mut keep: CapsHashSet = HashSet::from([Capability::CAP_NET_ADMIN, bpf(&permitted)]);
    if needs.listen < UNPRIVILEGED {
        keep.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    keep.retain(|capability| permitted.contains(capability));
    // A file of another user that root reads by privilege alone would be lost at its next change.
    let all = caps::read(None, CapSet::Effective)?;
    caps::set(None, CapSet::Effective, &keep)?;
    let denied = needs.reads.iter().any(is_denied);
    caps::set(None, CapSet::Effective, &all)?;
    if denied && permitted.contains(&Capability::CAP_DAC_READ_SEARCH) {
        keep.insert(Capability::CAP_DAC_READ_SEARCH);
    }
    if all.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding)?;
        for capability in bounding.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)?;
    caps::clear(None, CapSet::Inheritable)?;
    let mut kept: Vec<String> = keep.iter().map(ToString::to_string).collect();
    kept.sort();
    Ok(kept)
}

/// The capability by which maps and links are used: before Linux 5.8, and for whoever grants it so, it is
/// `CAP_SYS_ADMIN`.
fn bpf(permitted: &CapsHashSet) -> Capability {
    if permitted.contains(&Capability::CAP_BPF) { Capability::CAP_BPF } else { Capability::CAP_SYS_ADMIN }
}

fn is_denied(path: &PathBuf) -> bool {
    File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
