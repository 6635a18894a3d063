use std::fs;

use proptest::prelude::*;

use super::{Manifests, read, read_str};
use crate::cluster::objects::{Name, Object};

fn parse(name: &str, text: &str) -> Manifests {
    read_str(name, text)
}

fn pods(manifests: &Manifests) -> Vec<String> {
    manifests
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Pod(pod) => Some(pod.name.to_string()),
            _ => None,
        })
        .collect()
}

fn errors(manifests: &Manifests) -> Vec<String> {
    manifests.errors.iter().map(ToString::to_string).collect()
}

const POD_A: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: mcp\n  name: a\n";
const POD_B: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: mcp\n  name: b\n";

#[test]
fn every_document_of_a_file_counts() {
    let text = format!("# head\n---\n{POD_A}---\n\n# nothing\n---\n--- # with a comment\n{POD_B}...\n");
    let manifests = parse("pods.yaml", &text);
    assert_eq!(errors(&manifests), Vec::<String>::new());
    assert_eq!(pods(&manifests), ["mcp/a", "mcp/b"]);
}

#[test]
fn a_syntax_error_names_file_document_and_line_and_spares_the_others() {
    let text = format!("{POD_A}---\nkind: Pod\nmetadata: {{ name: [\n---\n{POD_B}");
    let manifests = parse("pods.yaml", &text);
    assert_eq!(pods(&manifests), ["mcp/a", "mcp/b"]);
    let errors = errors(&manifests);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0], "pods.yaml: document 2: line 8: unclosed bracket '['");
}

#[test]
fn a_wrong_field_is_named_with_its_object() {
    let text = format!("{POD_B}spec:\n  hostNetwork: \"yes\"\n---\n{POD_A}");
    let manifests = parse("pods.yaml", &text);
    assert_eq!(pods(&manifests), ["mcp/a"]);
    assert_eq!(
        errors(&manifests),
        [
            "pods.yaml: document 1: Pod mcp/b: spec.hostNetwork: invalid type: string \"yes\", expected a boolean"
        ]
    );
}

#[test]
fn lists_of_whole_and_of_bare_objects_are_opened() {
    let bare =
        r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"namespace":"mcp","name":"a"}}]}"#;
    assert_eq!(pods(&parse("a.json", bare)), ["mcp/a"]);
    let whole = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n\
                 - apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: d}\n";
    let manifests = parse("a.yaml", whole);
    assert_eq!(pods(&manifests), ["default/a"]);
    assert_eq!((manifests.ignored, manifests.errors.len()), (1, 0));
}

#[test]
fn one_bad_item_of_a_list_spares_the_others() {
    let list = r#"{"kind":"PodList","apiVersion":"v1","items":[
        {"metadata":{"namespace":"mcp","name":"a"},"status":{"podIP":"not an address"}},
        {"metadata":{"namespace":"mcp","name":"b"}}, 7]}"#;
    let manifests = parse("list.json", list);
    assert_eq!(pods(&manifests), ["mcp/b"]);
    assert_eq!(
        errors(&manifests),
        [
            "list.json: document 1: Pod mcp/a: status.podIP: \"not an address\" is no IP address",
            "list.json: document 1: object: expected a Kubernetes object",
        ]
    );
}

#[test]
fn a_document_without_kind_or_version_is_an_error() {
    let manifests = parse("a.yaml", "metadata:\n  name: a\n---\nkind: Pod\n---\njust text\n");
    assert_eq!(
        errors(&manifests),
        [
            "a.yaml: document 1: object a: kind: missing or no text",
            "a.yaml: document 2: object without a name: apiVersion: missing or no text",
            "a.yaml: document 3: object: expected a Kubernetes object",
        ]
    );
}

#[test]
fn a_field_that_expected_sources_does_not_have_is_an_error() {
    let text = "apiVersion: plainsight.dev/v1alpha1\nkind: ExpectedSources\nmetadata: {namespace: mcp, name: t}\n\
                spec:\n  selector: {matchLabel: {app: tools}}\n  serviceAccounts: [mcp/gateway]\n";
    let manifests = parse("es.yaml", text);
    let errors = errors(&manifests);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with(
            "es.yaml: document 1: ExpectedSources mcp/t: spec.selector.matchLabel: unknown field `matchLabel`"
        ),
        "{}",
        errors[0]
    );
}

#[test]
fn expected_sources_take_accounts_in_every_form() {
    let text = "apiVersion: plainsight.dev/v1alpha1\nkind: ExpectedSources\nmetadata: {namespace: mcp, name: t}\n\
                spec:\n  selector: {matchLabels: {app: tools}}\n  serviceAccounts:\n  - web/front\n  - gateway\n\
                \x20 - {namespace: batch, name: nightly}\n  - {name: audit}\n";
    let manifests = parse("es.yaml", text);
    assert_eq!(errors(&manifests), Vec::<String>::new());
    let [Object::ExpectedSources(sources)] = &manifests.objects[..] else { panic!("{manifests:?}") };
    assert_eq!(
        *sources.service_accounts,
        [
            Name::new("web", "front"),
            Name::new("mcp", "gateway"),
            Name::new("batch", "nightly"),
            Name::new("mcp", "audit")
        ]
    );
}

#[test]
fn a_folder_is_read_in_order_and_to_the_bottom() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::write(folder.path().join("z.yml"), POD_B).unwrap();
    fs::write(folder.path().join("deep/a.YAML"), POD_A).unwrap();
    fs::write(folder.path().join("notes.txt"), "not: [a manifest").unwrap();
    let manifests = read(&[folder.path().to_owned()]);
    assert_eq!(errors(&manifests), Vec::<String>::new());
    assert_eq!(pods(&manifests), ["mcp/a", "mcp/b"]);
    assert_eq!(manifests.files, 2);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("latin1.yaml"), b"name: \xe9\n").unwrap();
    let missing = folder.path().join("missing.yaml");
    let manifests = read(&[folder.path().to_owned(), missing.clone()]);
    let errors = errors(&manifests);
    assert_eq!(errors.len(), 2);
    assert!(errors[0].ends_with("latin1.yaml: cannot be read"), "{}", errors[0]);
    assert_eq!(errors[1], format!("{}: cannot be read", missing.display()));
}

proptest! {
    #[test]
    fn whatever_stands_before_a_document_cannot_swallow_it(text in "[ -~\n\t]{0,200}") {
        let manifests = parse("any.yaml", &format!("{text}\n---\n{POD_A}"));
        prop_assert!(pods(&manifests).contains(&"mcp/a".to_owned()));
    }

    #[test]
    fn no_bytes_of_a_json_file_do_harm(text in "\\PC{0,200}") {
        parse("any.json", &text);
    }
}
