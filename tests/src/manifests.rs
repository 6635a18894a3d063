//! Owns the Kubernetes YAML of the node and its pods, in the shape that `kubectl get -o yaml` prints.

use std::fmt::Write as _;

use crate::node::{NODE_ADDRESS, NODE_NAME, PlannedPod};

/// The node as a document.
#[must_use]
pub(crate) fn node() -> String {
    format!(
        "\
---
apiVersion: v1
kind: Node
metadata:
  name: {NODE_NAME}
spec:
  podCIDR: 10.244.1.0/24
  podCIDRs:
  - 10.244.1.0/24
  - fd00:10:244:1::/64
status:
  addresses:
  - type: InternalIP
    address: {NODE_ADDRESS}
  - type: Hostname
    address: {NODE_NAME}
"
    )
}

/// A pod as a document.
#[must_use]
pub(crate) fn pod(plan: &PlannedPod) -> String {
    let spec = &plan.spec;
    let mut text = format!(
        "\
---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  uid: {uid}
  labels:
",
        name = spec.name,
        namespace = spec.namespace,
        uid = plan.uid(),
    );
    for (key, value) in &spec.labels {
        line(&mut text, format_args!("    {key}: \"{value}\""));
    }
    if !spec.annotations.is_empty() {
        line(&mut text, format_args!("  annotations:"));
    }
    for (key, value) in &spec.annotations {
        line(&mut text, format_args!("    {key}: {value:?}"));
    }
    line(&mut text, format_args!("spec:"));
    line(&mut text, format_args!("  nodeName: {NODE_NAME}"));
    line(&mut text, format_args!("  serviceAccountName: {}", spec.service_account));
    line(&mut text, format_args!("  containers:\n  - name: main\n    image: example.invalid/{}", spec.name));
    if !spec.ports.is_empty() {
        line(&mut text, format_args!("    ports:"));
    }
    for (name, port) in &spec.ports {
        line(&mut text, format_args!("    - name: {name}\n      containerPort: {port}"));
    }
    for name in &spec.containers {
        line(&mut text, format_args!("  - name: {name}\n    image: example.invalid/{name}"));
    }
    let (ipv4, ipv6) = (plan.ipv4(), plan.ipv6());
    line(
        &mut text,
        format_args!(
            "status:\n  phase: Running\n  hostIP: {NODE_ADDRESS}\n  podIP: {ipv4}\n  podIPs:\n  - ip: {ipv4}\n  - ip: {ipv6}"
        ),
    );
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _never = writeln!(text, "{line}");
}
