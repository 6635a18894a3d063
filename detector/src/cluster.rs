//! Owns what is known of the cluster: which pod, service or node an address belongs to, and the policy
//! objects that were declared.
//!
//! Sources (manifests now, a Kubernetes watch beside it) turn what they read into [`objects`] and hand them
//! to the [`Store`]; nothing above knows which source filled it. Only this module knows the shape of
//! Kubernetes objects.

pub mod crds;
mod declared;
mod manifests;
pub mod objects;
mod selector;
mod store;
mod wire;
mod workload;

pub use self::{
    declared::deadline,
    manifests::{ManifestError, ManifestSource, Manifests, read, read_str},
    selector::{Labels, Selector},
    store::{Backend, Census, Holder, SharedStore, Store},
    workload::{Workload, WorkloadKind},
};
