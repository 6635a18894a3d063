//! Owns the words for a decision: what was decided, and the object and field that decided it.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::cluster::objects::Name;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $group:literal;)*) => {
        /// The kind of an object that takes part in decisions.
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// The kind as Kubernetes writes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The API group, empty for the core one.
            #[must_use]
            pub const fn group(self) -> &'static str {
                match self {
                    $(Self::$variant => $group,)*
                }
            }
        }
    };
}

kinds! {
    /// A pod: its labels and annotations.
    Pod = "Pod", "";
    /// A namespace: its labels and annotations.
    Namespace = "Namespace", "";
    /// Istio's mesh configuration, or Linkerd's values.
    ConfigMap = "ConfigMap", "";
    /// Istio's `PeerAuthentication`.
    PeerAuthentication = "PeerAuthentication", "security.istio.io";
    /// Istio's `AuthorizationPolicy`.
    AuthorizationPolicy = "AuthorizationPolicy", "security.istio.io";
    /// Istio's `DestinationRule`.
    DestinationRule = "DestinationRule", "networking.istio.io";
    /// Linkerd's `Server`.
    Server = "Server", "policy.linkerd.io";
    /// Linkerd's `ServerAuthorization`.
    ServerAuthorization = "ServerAuthorization", "policy.linkerd.io";
    /// Linkerd's `AuthorizationPolicy`.
    LinkerdAuthorizationPolicy = "AuthorizationPolicy", "policy.linkerd.io";
    /// Linkerd's `MeshTLSAuthentication`.
    MeshTlsAuthentication = "MeshTLSAuthentication", "policy.linkerd.io";
    /// Linkerd's `NetworkAuthentication`.
    NetworkAuthentication = "NetworkAuthentication", "policy.linkerd.io";
    /// Our `TrafficException`.
    TrafficException = "TrafficException", "plainsight.dev";
    /// Our `ExpectedSources`.
    ExpectedSources = "ExpectedSources", "plainsight.dev";
}

/// Names one object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name; the namespace is empty where the kind has none.
    pub name: Name,
}

impl ObjectKey {
    /// The field `field` of this object, as what decided.
    #[must_use]
    pub fn field(&self, field: impl Into<Cow<'static, str>>) -> Decider {
        Decider::Field { object: self.clone(), field: field.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both meshes have an AuthorizationPolicy; Istio's is the one that is meant without a word.
        let mesh = if self.kind == Kind::LinkerdAuthorizationPolicy { "Linkerd " } else { "" };
        let kind = self.kind.as_str();
        if self.name.namespace.is_empty() {
            write!(f, "{mesh}{kind} {}", self.name.name)
        } else {
            write!(f, "{mesh}{kind} {}", self.name)
        }
    }
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// A field of an object.
    Field {
        /// The object.
        object: ObjectKey,
        /// The field's path.
        field: Cow<'static, str>,
    },
    /// No object speaks: a mesh's own default holds.
    Default(&'static str),
}

impl Decider {
    /// The object, unless a default decided.
    #[must_use]
    pub fn object(&self) -> Option<&ObjectKey> {
        match self {
            Self::Field { object, .. } => Some(object),
            Self::Default(_) => None,
        }
    }

    /// Whether an object of this kind decided.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.object().is_some_and(|object| object.kind == kind)
    }

    /// A field of a pod.
    #[must_use]
    pub fn pod(name: &Name, field: impl Into<Cow<'static, str>>) -> Self {
        ObjectKey { kind: Kind::Pod, name: name.clone() }.field(field)
    }

    /// A field of a namespace.
    #[must_use]
    pub fn namespace(name: &Arc<str>, field: impl Into<Cow<'static, str>>) -> Self {
        let name = Name { namespace: "".into(), name: Arc::clone(name) };
        ObjectKey { kind: Kind::Namespace, name }.field(field)
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { object, field } => write!(f, "{object}, {field}"),
            Self::Default(text) => f.write_str(text),
        }
    }
}

/// Whether something holds, as far as layer 4 shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It does not.
    No,
    /// What would tell is not on layer 4, or is a field that we do not know.
    Maybe,
    /// It does.
    Yes,
}

impl Truth {
    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// One of both holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// It does not hold.
    #[must_use]
    pub const fn negate(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }

    /// One of all holds; none of none.
    pub fn any(all: impl IntoIterator<Item = Self>) -> Self {
        let mut found = Self::No;
        for one in all {
            found = found.or(one);
            if found == Self::Yes {
                break;
            }
        }
        found
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// Whether a caller is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Policy admits it.
    Allowed,
    /// Policy does not admit it.
    Denied,
    /// What would tell is not on layer 4.
    Unknown,
    /// No policy speaks of callers here.
    NoPolicy,
}

impl Answer {
    /// The answer's name in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
            Self::NoPolicy => "no-policy",
        }
    }
}

/// An answer and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The answer.
    pub answer: Answer,
    /// What decided it.
    pub decided_by: Decider,
    /// Why it is not known, where it is not.
    pub because: Option<Cow<'static, str>>,
}

impl Ruling {
    /// An answer that stands without a reason.
    #[must_use]
    pub fn new(answer: Answer, decided_by: Decider) -> Self {
        Self { answer, decided_by, because: None }
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{self, Maybe, No, Yes};

    #[test]
    fn three_values_follow_kleene() {
        for (a, b, and, or) in [
            (Yes, Yes, Yes, Yes),
            (Yes, Maybe, Maybe, Yes),
            (Yes, No, No, Yes),
            (Maybe, Maybe, Maybe, Maybe),
            (Maybe, No, No, Maybe),
            (No, No, No, No),
        ] {
            assert_eq!((a.and(b), a.or(b)), (and, or), "{a:?} {b:?}");
            assert_eq!((b.and(a), b.or(a)), (and, or), "{b:?} {a:?}");
        }
        assert_eq!(Truth::any([]), No);
        assert_eq!(Truth::any([No, Maybe]), Maybe);
        assert_eq!([No, Maybe, Yes].map(Truth::negate), [Yes, Maybe, No]);
    }
}
