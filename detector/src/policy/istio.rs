//! Owns what Istio's objects say: who must speak mTLS, who may call, and what a client sends.

pub mod authorization;
pub mod config;
pub mod destination_rule;
pub mod peer_authentication;

pub use self::{
    authorization::{Action, AuthorizationPolicy, Caller, Identity, Layer7},
    config::MeshConfig,
    destination_rule::{DestinationRule, TlsMode},
    peer_authentication::{Mode, PeerAuthentication},
};
