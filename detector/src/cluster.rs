//! Owns what is known of the cluster: which pod, service or node an address belongs to, and the policy
//! objects that were declared.
//!
//! Sources (manifests now, a Kubernetes watch beside it) turn what they read into [`objects`] and hand them
//! to the [`Store`]; nothing above knows which source filled it. Only this module knows the shape of
//! Kubernetes objects.

pub mod crds;
mod declared;
mod identity;
pub mod kubernetes;
mod manifests;
pub mod objects;
mod selector;
mod store;
mod wire;
mod workload;
mod yaml;

pub(crate) use self::yaml::scalar;
pub use self::{
    declared::deadline,
    identity::{TrustDomain, trust_domain_of_mesh_config},
    manifests::{ManifestError, ManifestSource, Manifests, read, read_str},
    selector::{Labels, Selector},
    store::{Backend, Census, Holder, Seen, SharedStore, Spoof, Store},
    wire::{DecodeError, decode},
    workload::{Workload, WorkloadKind},
};
