//! Who must speak mTLS.

use super::{World, ambient, object, plain, sidecar};
use crate::policy::Declared::{self, Disabled, Permissive, Strict};

fn pa(name: &str, created: &str, spec: &str) -> String {
    object("PeerAuthentication", "security.istio.io/v1", name, created, spec)
}

#[test]
fn composition_follows_istio() {
    const OLD: &str = "2026-01-01T00:00:00Z";
    const NEW: &str = "2026-02-01T00:00:00Z";
    let strict = "{mtls: {mode: STRICT}}";
    let disable = "{mtls: {mode: DISABLE}}";
    let selecting =
        |mode: &str| format!("{{selector: {{matchLabels: {{app: tools}}}}, mtls: {{mode: {mode}}}}}");
    let ports = "{selector: {matchLabels: {app: tools}}, mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: DISABLE}, 8080: {mode: UNSET}}}";
    let rows: &[(&str, Vec<String>, u16, Declared, &str)] = &[
        ("applier 1: start PERMISSIVE", vec![], 8080, Permissive, "Istio's default, PERMISSIVE"),
        (
            "applier 2: the mesh's policy is in the root namespace",
            vec![pa("istio-system/m", OLD, strict)],
            8080,
            Strict,
            "istio-system/m",
        ),
        (
            "applier 2: no other namespace's policy is the mesh's",
            vec![pa("other/m", OLD, strict)],
            8080,
            Permissive,
            "default",
        ),
        (
            "applier 3: a namespace overrides the mesh",
            vec![pa("istio-system/m", OLD, strict), pa("mcp/n", NEW, disable)],
            8080,
            Disabled,
            "mcp/n",
        ),
        (
            "applier 3: an empty selector is none",
            vec![pa("mcp/n", OLD, "{selector: {}, mtls: {mode: STRICT}}")],
            8080,
            Strict,
            "mcp/n",
        ),
        (
            "applier 4: a workload overrides its namespace",
            vec![pa("mcp/n", OLD, strict), pa("mcp/w", NEW, &selecting("PERMISSIVE"))],
            8080,
            Permissive,
            "mcp/w",
        ),
        (
            "applier 4: a selector must match",
            vec![pa("mcp/w", OLD, "{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}")],
            8080,
            Permissive,
            "default",
        ),
        (
            "applier 4: a selector in the root namespace is ignored",
            vec![pa("istio-system/w", OLD, &selecting("STRICT"))],
            8080,
            Permissive,
            "default",
        ),
        (
            "applier 4: the oldest of a level wins",
            vec![pa("mcp/young", NEW, disable), pa("mcp/old", OLD, strict)],
            8080,
            Strict,
            "mcp/old",
        ),
        (
            "applier 4: of the same age the first by name",
            vec![pa("mcp/b", OLD, disable), pa("mcp/a", OLD, strict)],
            8080,
            Strict,
            "mcp/a",
        ),
        (
            "applier 4: UNSET inherits",
            vec![pa("istio-system/m", OLD, strict), pa("mcp/n", OLD, "{mtls: {mode: UNSET}}")],
            8080,
            Strict,
            "istio-system/m",
        ),
        (
            "applier 4: no mtls at all inherits",
            vec![pa("istio-system/m", OLD, strict), pa("mcp/n", OLD, "{}")],
            8080,
            Strict,
            "istio-system/m",
        ),
        (
            "applier 4: the oldest shadows others even when it is UNSET",
            vec![pa("mcp/a", OLD, "{mtls: {}}"), pa("mcp/b", NEW, strict)],
            8080,
            Permissive,
            "default",
        ),
        (
            "applier 5: a port of the workload's policy",
            vec![pa("mcp/w", OLD, ports)],
            8081,
            Disabled,
            "mcp/w, spec.portLevelMtls[8081].mode",
        ),
        (
            "applier 5: UNSET of a port inherits the composed mode",
            vec![pa("mcp/w", OLD, ports)],
            8080,
            Strict,
            "mcp/w, spec.mtls.mode",
        ),
        (
            "applier 5: ports of a namespace's policy count for nothing",
            vec![pa("mcp/n", OLD, "{mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: DISABLE}}}")],
            8081,
            Strict,
            "mcp/n, spec.mtls.mode",
        ),
        (
            "applier 5: ports of a workload's policy that lost count for nothing",
            vec![pa("mcp/a", OLD, &selecting("STRICT")), pa("mcp/w", NEW, ports)],
            8081,
            Strict,
            "mcp/a",
        ),
        (
            "C1: v1beta1 is read as v1",
            vec![object("PeerAuthentication", "security.istio.io/v1beta1", "mcp/n", OLD, strict)],
            8080,
            Strict,
            "mcp/n",
        ),
    ];
    for (rule, objects, port, expected, by) in rows {
        let world = World::new(&(objects.concat() + &sidecar("mcp", "tools", &[])));
        let mode = world.mode("tools", *port);
        assert_eq!(mode.declared, *expected, "{rule}");
        assert!(mode.decided_by.to_string().contains(by), "{rule}: {}", mode.decided_by);
        assert_eq!(mode.gap, None, "{rule}");
    }
}

#[test]
fn a_mode_holds_where_a_proxy_stands() {
    let strict = pa("mcp/n", "2026-01-01T00:00:00Z", "{mtls: {mode: STRICT}}");
    let exclude = [("traffic.sidecar.istio.io/excludeInboundPorts", "9000,9100-9110")];
    let include = [("traffic.sidecar.istio.io/includeInboundPorts", "8080")];
    let none = [("sidecar.istio.io/interceptionMode", "NONE")];
    let bypass = [("ambient.istio.io/bypass-inbound-capture", "true")];
    for (rule, pod, port, gap) in [
        (
            "applier 6: without a proxy nothing is enforced",
            plain("mcp", "tools"),
            8080,
            Some("no mesh proxy"),
        ),
        ("C5: an excluded port", sidecar("mcp", "tools", &exclude), 9105, Some("excludeInboundPorts")),
        ("C5: a port beside the excluded ones", sidecar("mcp", "tools", &exclude), 8080, None),
        (
            "C5: a port that is not included",
            sidecar("mcp", "tools", &include),
            9000,
            Some("includeInboundPorts"),
        ),
        ("C5: a port that is included", sidecar("mcp", "tools", &include), 8080, None),
        (
            "capture: where a list is included, what is excluded does not count",
            sidecar("mcp", "tools", &[include[0], ("traffic.sidecar.istio.io/excludeInboundPorts", "8080")]),
            8080,
            None,
        ),
        (
            "capture: an empty list includes nothing",
            sidecar("mcp", "tools", &[("traffic.sidecar.istio.io/includeInboundPorts", "")]),
            8080,
            Some("includeInboundPorts"),
        ),
        ("C5: interception is off", sidecar("mcp", "tools", &none), 8080, Some("interceptionMode")),
        (
            "C5: ambient capture is passed by",
            ambient("mcp", "tools", &bypass),
            8080,
            Some("bypass-inbound-capture"),
        ),
        ("C5: ambient capture", ambient("mcp", "tools", &[]), 8080, None),
    ] {
        let mode = World::new(&(strict.clone() + &pod)).mode("tools", port);
        assert_eq!(mode.declared, Strict, "{rule}");
        let said = mode.gap.map(|gap| gap.to_string());
        assert_eq!(said.is_some(), gap.is_some(), "{rule}: {said:?}");
        assert!(said.unwrap_or_default().contains(gap.unwrap_or_default()), "{rule}");
    }
}

#[test]
fn ambient_takes_both_where_disable_is_declared() {
    let disable = pa("mcp/n", "2026-01-01T00:00:00Z", "{mtls: {mode: DISABLE}}");
    let world = World::new(&(disable + &ambient("mcp", "tools", &[])));
    assert_eq!(world.mode("tools", 8080).declared, Permissive, "ambient: DISABLE and PERMISSIVE are one");
}

#[test]
fn the_root_namespace_is_what_the_mesh_says() {
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: istio-system\n  name: istio\ndata:\n  mesh: |\n    rootNamespace: mesh-root\n";
    let policy = pa("mesh-root/m", "2026-01-01T00:00:00Z", "{mtls: {mode: STRICT}}");
    let world = World::new(&(config.to_owned() + &policy + &sidecar("mcp", "tools", &[])));
    assert_eq!(world.mode("tools", 8080).declared, Strict, "C9: meshConfig.rootNamespace");
}

#[test]
fn without_a_mesh_and_a_policy_there_is_no_word() {
    let strict = |name: &str| pa(name, "2026-01-01T00:00:00Z", "{mtls: {mode: STRICT}}");
    let gateway = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: mcp, name: tools, labels: {istio: ingressgateway, security.istio.io/tlsMode: istio}}\nspec: {containers: [{name: istio-proxy}]}\n";
    for (rule, text, spoken) in [
        ("no policy", plain("mcp", "tools"), false),
        (
            "applier 6: the mesh's policy is not about a pod outside of it",
            strict("istio-system/m") + &plain("mcp", "tools"),
            false,
        ),
        ("nor in the root namespace", strict("istio-system/m") + &plain("istio-system", "tools"), false),
        ("its namespace's is", strict("mcp/n") + &plain("mcp", "tools"), true),
        ("C10: a gateway's listeners are its Gateway's", strict("mcp/n") + gateway, false),
        (
            "a sidecar beside a gateway of another make",
            strict("mcp/n") + &gateway.replace("[{", "[{name: envoy}, {"),
            true,
        ),
    ] {
        let world = World::new(&text);
        assert_eq!(world.set.mode(world.pod("tools"), 8080, None).is_some(), spoken, "{rule}");
    }
}
