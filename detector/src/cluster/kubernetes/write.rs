//! Owns the writes: one object each, and what an answer means for whoever wanted it written.
//!
//! What is written comes as JSON from `outputs`; here it gets a path and a verb. Names in paths are of DNS, by
//! whoever made them: nothing in them needs an escape.

use std::time::Duration;

use hyper::{Method, header::CONTENT_TYPE};

use super::{
    access::Connection,
    failure::Failure,
    lines,
    request::{self, send},
};
use crate::cluster::objects::Name;

/// A resource that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The API group.
    pub group: &'static str,
    /// The version that is written.
    pub version: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// The verbs that a role must allow. A server-side apply that makes an object needs `create` too.
    pub verbs: &'static [&'static str],
}

impl Written {
    /// Events.
    pub const EVENTS: Self =
        Self { group: "events.k8s.io", version: "v1", plural: "events", verbs: &["create", "patch"] };

    /// Reports of the policy working group.
    pub const POLICY_REPORTS: Self = Self {
        group: "wgpolicyk8s.io",
        version: "v1alpha2",
        plural: "policyreports",
        verbs: &["list", "create", "patch", "delete"],
    };

    /// Reports of OpenReports.
    pub const OPEN_REPORTS: Self = Self {
        group: "openreports.io",
        version: "v1alpha1",
        plural: "reports",
        verbs: Self::POLICY_REPORTS.verbs,
    };

    /// The rule that a ClusterRole needs, as one line of YAML.
    #[must_use]
    pub fn rule(&self) -> String {
        let Self { group, plural, verbs, .. } = self;
        format!("{{apiGroups: [{group:?}], resources: [{plural:?}], verbs: {verbs:?}}}")
    }

    fn path(&self, namespace: Option<&str>, rest: &str) -> String {
        let Self { group, version, plural, .. } = self;
        let namespace = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        format!("/apis/{group}/{version}{namespace}/{plural}{rest}")
    }
}

/// Why something was not written, by what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// RBAC refuses; it will, until a role changes.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The object, its namespace, or its CRD is not there.
    #[error("not found")]
    Absent,
    /// The API server will not have it, however often it is asked.
    #[error("refused: {0}")]
    Refused(String),
    /// It may work later.
    #[error("{why}")]
    Later {
        /// The kind of failure, for metrics.
        kind: &'static str,
        /// What went wrong.
        why: String,
        /// How long the API server asks to wait.
        after: Option<Duration>,
    },
}

impl WriteError {
    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "forbidden",
            Self::Absent => "absent",
            Self::Refused(_) => "refused",
            Self::Later { kind, .. } => kind,
        }
    }
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        let kind = failure.label();
        match failure {
            Failure::Forbidden(why) => Self::Forbidden(why),
            Failure::Absent => Self::Absent,
            Failure::Busy { retry_after } => {
                Self::Later { kind, why: failure.to_string(), after: retry_after }
            }
            // A write that crossed another is worth another try; any other word of this kind is final.
            Failure::Status { code, message } if code < 500 && code != 409 => {
                Self::Refused(format!("status {code}: {message}"))
            }
            failure => Self::Later { kind, why: failure.to_string(), after: None },
        }
    }
}

/// Writes to the API server, over the connection of the watches.
#[derive(Clone, Debug)]
pub struct Writer {
    connection: Connection,
    silence: Duration,
}

impl Writer {
    /// The name under which fields are ours in server-side apply.
    pub const FIELD_MANAGER: &'static str = "plainsight";

    pub(super) const fn new(connection: Connection, silence: Duration) -> Self {
        Self { connection, silence }
    }

    /// Makes an object. One of its name is one that an answer got lost of: that is success.
    ///
    /// # Errors
    ///
    /// It is not there now, as far as is known.
    pub async fn create(&self, what: Written, namespace: &str, body: Vec<u8>) -> Result<(), WriteError> {
        let path = what.path(Some(namespace), "");
        match self.send(Method::POST, &path, Some("application/json"), body).await {
            Err(Failure::Status { code: 409, .. }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Changes the members that `body` names.
    ///
    /// # Errors
    ///
    /// They are not changed, as far as is known.
    pub async fn merge(
        &self,
        what: Written,
        namespace: &str,
        name: &str,
        body: Vec<u8>,
    ) -> Result<(), WriteError> {
        let path = what.path(Some(namespace), &format!("/{name}"));
        Ok(self.send(Method::PATCH, &path, Some("application/merge-patch+json"), body).await.map(drop)?)
    }

    /// Has an object be as `body` says, made if it is not there, by server-side apply.
    ///
    /// # Errors
    ///
    /// It is not so, as far as is known.
    pub async fn apply(&self, what: Written, name: &Name, body: Vec<u8>) -> Result<(), WriteError> {
        let rest = format!("/{}?fieldManager={}&force=true", name.name, Self::FIELD_MANAGER);
        let path = what.path(Some(&name.namespace), &rest);
        // JSON is YAML.
        Ok(self.send(Method::PATCH, &path, Some("application/apply-patch+yaml"), body).await.map(drop)?)
    }

    /// Takes an object away; one that is not there is no failure.
    ///
    /// # Errors
    ///
    /// It is still there, as far as is known.
    pub async fn delete(&self, what: Written, name: &Name) -> Result<(), WriteError> {
        let path = what.path(Some(&name.namespace), &format!("/{}", name.name));
        match self.send(Method::DELETE, &path, None, Vec::new()).await {
            Err(Failure::Absent) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// The objects of all namespaces with these labels.
    ///
    /// # Errors
    ///
    /// They cannot be listed.
    pub async fn list(&self, what: Written, selector: &str) -> Result<Vec<Name>, WriteError> {
        #[derive(serde::Deserialize)]
        struct Item {
            metadata: Metadata,
        }
        #[derive(serde::Deserialize)]
        struct Metadata {
            namespace: String,
            name: String,
        }
        #[derive(serde::Deserialize)]
        struct Items {
            items: Vec<Item>,
        }
        let selector = selector.replace('=', "%3D").replace(',', "%2C").replace('/', "%2F");
        let path = what.path(None, &format!("?labelSelector={selector}"));
        let answer = self.send(Method::GET, &path, None, Vec::new()).await?;
        let Items { items } = request::parse(&answer)?;
        Ok(items
            .into_iter()
            .map(|Item { metadata: Metadata { namespace, name } }| Name::new(namespace, name))
            .collect())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<&str>,
        body: Vec<u8>,
    ) -> Result<bytes::BytesMut, Failure> {
        const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let connected = self.connection.client().await?;
        // Of a list the names alone are wanted; of what was written, nothing.
        let accept = if method == Method::GET { METADATA } else { "application/json" };
        let mut request = hyper::Request::builder().method(method).uri(path).header("accept", accept);
        if let Some(content) = content {
            request = request.header(CONTENT_TYPE, content);
        }
        let request = request.body(body).map_err(|error| Failure::Garbage(error.to_string()))?;
        let answer = async {
            let body = send(&connected, request, self.silence).await?;
            lines::whole(body, self.silence, || {}).await
        };
        let answer = answer.await;
        if let Err(failure) = &answer
            && failure.wants_new_connection()
        {
            self.connection.renew(connected.generation).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, WriteError, Written};

    #[test]
    fn a_rule_can_be_pasted_into_a_cluster_role() {
        assert_eq!(
            Written::EVENTS.rule(),
            "{apiGroups: [\"events.k8s.io\"], resources: [\"events\"], verbs: [\"create\", \"patch\"]}"
        );
    }

    #[test]
    fn failures_are_told_apart_by_what_is_to_be_done() {
        let of = |code| WriteError::from(Failure::of_status(code, None, None)).label();
        let labels: Vec<_> = [403, 404, 422, 400, 415, 409, 429, 500, 503, 410].map(of).into();
        assert_eq!(
            labels,
            [
                "forbidden",
                "absent",
                "refused",
                "refused",
                "refused",
                "status",
                "busy",
                "status",
                "status",
                "expired"
            ]
        );
    }
}
