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
    let mut keep: CapsHashSet = HashSet::from([Capability::CAP_NET_ADMIN]);
    keep.extend(bpf(needs.kernel, &permitted));
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

/// The first kernel that asks for a capability where a program or a map is made, and not where one is used (Linux
/// c8644cd0efe7, "bpf: refine kernel.unprivileged_bpf_disabled behaviour").
const BY_DESCRIPTOR: (u32, u32) = (5, 19);

/// The capability by which maps and links are used on older kernels. For whoever grants it so, it is
/// `CAP_SYS_ADMIN`.
fn bpf(kernel: Option<(u32, u32)>, permitted: &CapsHashSet) -> Option<Capability> {
    if kernel.is_some_and(|kernel| kernel >= BY_DESCRIPTOR) {
        return None;
    }
    let known = permitted.contains(&Capability::CAP_BPF);
    Some(if known { Capability::CAP_BPF } else { Capability::CAP_SYS_ADMIN })
}

fn is_denied(path: &PathBuf) -> bool {
    File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use caps::Capability;

    use super::bpf;

    #[test]
    fn maps_and_links_take_a_capability_on_older_kernels_only() {
        let own = HashSet::from([Capability::CAP_BPF, Capability::CAP_SYS_ADMIN]);
        let instead = HashSet::from([Capability::CAP_SYS_ADMIN]);
        for kernel in [None, Some((5, 10)), Some((5, 15))] {
            assert_eq!(bpf(kernel, &own), Some(Capability::CAP_BPF));
            assert_eq!(bpf(kernel, &instead), Some(Capability::CAP_SYS_ADMIN));
        }
        for kernel in [(5, 19), (6, 1), (6, 18), (7, 0)] {
            assert_eq!(bpf(Some(kernel), &own), None);
        }
    }
}
