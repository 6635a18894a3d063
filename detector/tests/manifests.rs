//! Holds the manifests under `deploy/` against the program that they start.
//!
//! `cargo xtask manifests --check` renders them and checks them with Helm, kubectl and schemas. Here is what
//! only the program itself knows: its flags, its environment, the capabilities that it asks for.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{collections::BTreeSet, fs, path::Path};

use clap::{CommandFactory as _, Parser as _};
use detector::{
    args::{Cli, Command},
    config::Config,
    preflight::{Facts, Weight, check},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, PodSpec, SecurityContext},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The defaults, and every value of the chart set.
const RENDERED: [&str; 2] =
    ["deploy/kustomize/base/daemonset.yaml", "detector/testdata/manifests/everything.yaml"];

fn objects(path: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads an object as its type; a field that the type does not have is an error.
fn typed<T: DeserializeOwned>(object: &Value) -> T {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(object, |path| unknown.push(path.to_string()));
    assert!(unknown.is_empty(), "fields that nobody reads: {unknown:?}");
    read.unwrap()
}

fn daemon_set(path: &str) -> DaemonSet {
    let objects = objects(path);
    typed(objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap())
}

fn pod(path: &str) -> PodSpec {
    daemon_set(path).spec.template.spec.unwrap()
}

fn container(pod: &PodSpec) -> &Container {
    let [container] = &pod.containers[..] else { panic!("{:?}", pod.containers) };
    container
}

#[test]
fn the_daemon_set_starts_plainsight_with_flags_that_it_has() {
    for path in RENDERED {
        let pod = pod(path);
        let args = container(&pod).args.clone().unwrap();
        let line = ["plainsight".to_owned()].into_iter().chain(args);
        let command = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{path}: {error}")).command;
        let Command::Run(run) = command else { panic!("{path}: {command:?}") };
        let config = Config::try_from(*run).unwrap();
        let port = container(&pod).ports.as_ref().unwrap()[0].container_port;
        assert_eq!(i32::from(config.admin.listen.port()), port, "{path}");
    }
}

/// What is left of pods before is removed by the same image, with no more rights than the daemon has.
#[test]
fn without_pins_the_node_is_cleaned_first() {
    assert_eq!(pod(RENDERED[0]).init_containers, None, "pins are the default");
    let pod = pod(RENDERED[1]);
    let [init] = &pod.init_containers.clone().unwrap()[..] else { panic!("{:?}", pod.init_containers) };
    let line = ["plainsight".to_owned()].into_iter().chain(init.args.clone().unwrap());
    let command = Cli::try_parse_from(line).unwrap().command;
    let Command::Detach(detach) = command else { panic!("{command:?}") };
    let mounts = init.volume_mounts.clone().unwrap();
    assert!(mounts.iter().any(|mount| detach.pin.starts_with(&mount.mount_path)), "{mounts:?}");
    let (own, daemon) =
        (init.security_context.clone().unwrap(), container(&pod).security_context.clone().unwrap());
    let added = |context: &SecurityContext| context.capabilities.clone().unwrap().add.unwrap();
    assert!(added(&own).iter().all(|name| added(&daemon).contains(name)), "{own:?}");
    assert_eq!(own.capabilities.clone().unwrap().drop, Some(vec!["ALL".to_owned()]));
    assert_eq!((own.privileged, own.allow_privilege_escalation), (Some(false), Some(false)));
    assert_eq!(own.read_only_root_filesystem, Some(true));
}

/// A file that a flag names is in a mount, and no mount is there for nothing.
#[test]
fn files_that_flags_name_are_mounted() {
    let pod = pod(RENDERED[1]);
    let container = container(&pod);
    let (args, mounts) = (container.args.clone().unwrap(), container.volume_mounts.clone().unwrap());
    let files: Vec<_> = args
        .iter()
        .filter_map(|arg| arg.split_once("=/etc/"))
        .map(|(_, path)| format!("/etc/{path}"))
        .collect();
    assert_eq!(files.len(), 5, "{args:?}");
    for mount in mounts.iter().filter(|mount| mount.mount_path.starts_with("/etc/")) {
        assert_eq!(mount.read_only, Some(true), "{mount:?}");
        let inside = format!("{}/", mount.mount_path);
        assert!(files.iter().any(|file| file.starts_with(&inside)), "{mount:?} is for nothing");
    }
    for file in &files {
        assert!(mounts.iter().any(|mount| file.starts_with(&format!("{}/", mount.mount_path))), "{file}");
    }
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe] {
        let http = probe.clone().unwrap().http_get.unwrap();
        assert_eq!(http.scheme.as_deref(), Some("HTTPS"));
    }
}

#[test]
fn the_default_values_are_the_programs_own() {
    let own = Cli::try_parse_from(["plainsight", "run", "--log-format", "json"]).unwrap().command;
    let pod = pod(RENDERED[0]);
    let args = container(&pod).args.clone().unwrap();
    let manifests = Cli::try_parse_from(["plainsight".to_owned()].into_iter().chain(args)).unwrap().command;
    let (Command::Run(own), Command::Run(manifests)) = (own, manifests) else { panic!("not run") };
    assert_eq!(Config::try_from(*own).unwrap(), Config::try_from(*manifests).unwrap());
}

#[test]
fn the_environment_that_is_set_is_read() {
    let command = Cli::command();
    let known: BTreeSet<String> = command
        .find_subcommand("run")
        .unwrap()
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
        .collect();
    for path in RENDERED {
        let pod = pod(path);
        let set = container(&pod).env.clone().unwrap();
        let ours: Vec<_> = set.iter().filter(|var| var.name.starts_with("PLAINSIGHT_")).collect();
        assert!(!ours.is_empty(), "{path} names no node");
        for var in ours {
            assert!(known.contains(&var.name), "{path}: {} is no variable of `plainsight run`", var.name);
        }
    }
}

#[test]
fn the_capabilities_are_those_that_preflight_asks_for() {
    let bits = [("NET_ADMIN", 12), ("SYS_ADMIN", 21), ("SYS_RESOURCE", 24), ("PERFMON", 38), ("BPF", 39)];
    let bit =
        |name: &String| bits.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1;
    let of = |path: &str| {
        let pod = pod(path);
        let capabilities = container(&pod).security_context.clone().unwrap().capabilities.unwrap();
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]), "{path}");
        capabilities.add.unwrap()
    };
    let fatal = |names: &[String]| {
        let capabilities = names.iter().fold(0, |all, name| all | 1 << bit(name));
        let facts = Facts { capabilities, btf: true, bpffs: true, kernel: Some((6, 18)) };
        check(&facts).iter().filter(|missing| missing.weight == Weight::Fatal).count()
    };
    for path in RENDERED {
        assert_eq!(fatal(&of(path)), 0, "{path}");
    }
    // By default there is none too many.
    let default = of(RENDERED[0]);
    for left_out in &default {
        let rest: Vec<_> = default.iter().filter(|name| *name != left_out).cloned().collect();
        assert_eq!(fatal(&rest), 1, "{left_out} is not needed");
    }
}

#[test]
fn the_container_is_locked_down() {
    for path in RENDERED {
        let pod = pod(path);
        let context = container(&pod).security_context.clone().unwrap();
        assert_eq!(context.privileged, Some(false), "{path}");
        assert_eq!(context.allow_privilege_escalation, Some(false), "{path}");
        assert_eq!(context.read_only_root_filesystem, Some(true), "{path}");
        assert_eq!(pod.host_network, Some(true), "{path}");
        assert_eq!((pod.host_pid, pod.host_ipc), (None, None), "{path}");
        let host: Vec<_> =
            pod.volumes.iter().flatten().filter_map(|volume| volume.host_path.as_ref()).collect();
        assert_eq!(
            host.iter().map(|mount| mount.path.as_str()).collect::<Vec<_>>(),
            ["/sys/fs/bpf"],
            "{path}"
        );
        assert!(pod.security_context.unwrap().seccomp_profile.is_some(), "{path}");
        let limits = container(&self::pod(path)).resources.clone().unwrap().limits.unwrap();
        assert!(limits.contains_key("memory"), "{path}");
    }
}
