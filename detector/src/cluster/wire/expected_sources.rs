//! Owns the shape of our own `ExpectedSources`.

use std::sync::Arc;

use serde::{Deserialize, de::Error as _};

use super::{DecodeError, Meta};
use crate::cluster::{
    objects::{ExpectedSources, Name, Object},
    selector::WireSelector,
};

#[derive(Deserialize)]
pub(super) struct WireExpectedSources {
    #[serde(default)]
    metadata: Meta,
    spec: WireExpectedSourcesSpec,
}

// Ours, so a field that we do not know is a slip: taken in silence it could make a selector match all.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireExpectedSourcesSpec {
    #[serde(default)]
    selector: WireSelector,
    service_accounts: Vec<WireAccount>,
}

/// A service account: `namespace/name`, or a bare name in the object's own namespace, or both as members.
struct WireAccount {
    namespace: Option<String>,
    name: String,
}

impl<'de> Deserialize<'de> for WireAccount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"namespace/name\" or an object with namespace and name")]
        enum Form {
            Text(String),
            Members(Members),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Members {
            #[serde(default)]
            namespace: Option<String>,
            name: String,
        }
        let account = match Form::deserialize(deserializer)? {
            Form::Members(Members { namespace, name }) => Self { namespace, name },
            Form::Text(text) => match text.split_once('/') {
                Some((namespace, name)) => {
                    Self { namespace: Some(namespace.to_owned()), name: name.to_owned() }
                }
                None => Self { namespace: None, name: text },
            },
        };
        let empty = account.name.is_empty() || account.namespace.as_deref() == Some("");
        if empty || account.name.contains('/') {
            return Err(D::Error::custom("expected \"namespace/name\""));
        }
        Ok(account)
    }
}

impl WireExpectedSources {
    pub(super) fn into_object(self) -> Result<Object, DecodeError> {
        let Self { metadata, spec: WireExpectedSourcesSpec { selector, service_accounts } } = self;
        let name = metadata.name()?;
        let service_accounts = service_accounts
            .into_iter()
            .map(|account| match account.namespace {
                Some(namespace) => Name::new(namespace, account.name),
                None => Name { namespace: Arc::clone(&name.namespace), name: account.name.into() },
            })
            .collect();
        Ok(Object::ExpectedSources(ExpectedSources { selector: selector.into(), name, service_accounts }))
    }
}
