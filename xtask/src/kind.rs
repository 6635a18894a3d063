//! `cargo xtask kind`: the image and the manifests in a real cluster, made by kind in Docker.
//!
//! Pods and traffic are the scenario's, and so are the expectations: what the namespace tests assert of the
//! daemon's lines is asserted here of the logs of all nodes.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use detector_tests::{
    record::Record,
    scenario::{FINDINGS, FLOWS, forbidden, missing},
    wait,
};

use crate::{
    ebpf, image,
    process::{self, on_path, step},
    setup::{self, kubernetes},
    workspace::Workspace,
};

mod pods;

/// The cluster's name; one of that name is ours.
const CLUSTER: &str = "plainsight-check";

/// The image of servers and clients.
const CLIENTS: &str = "localhost/plainsight-mcp-clients:check";

/// For nodes to come up, and for pods to be scheduled and started.
const ROLLOUT: &str = "180s";

/// From the first call to the last line.
const SETTLE: Duration = Duration::from_secs(120);

/// Fails, saying what is missing, unless clusters can be made here.
fn require() -> Result<()> {
    let mut docker = Command::new("docker");
    docker.args(["version", "--format", "{{.Server.Version}}"]);
    if let Err(error) = process::output(&mut docker) {
        bail!("needs Docker: kind makes its nodes of containers, and no engine answers ({error:#})");
    }
    ensure!(on_path("kind"), "needs kind: install it by `go install sigs.k8s.io/kind@v0.30.0`");
    Ok(())
}

pub(crate) fn run(workspace: &Workspace, keep: bool) -> Result<()> {
    require()?;
    setup::ensure_manifests(workspace)?;
    let options = image::Options { architecture: image::binary::Architecture::own(), check: false };
    let image = image::run(workspace, &options)?;
    step("build the image of servers and clients", || {
        let mut docker = Command::new("docker");
        docker.args(["build", "--tag", CLIENTS, "--file", "tests/kind/Dockerfile", "tests"]);
        process::run(docker.current_dir(workspace.root()))
    })?;
    let cluster = step("make a cluster", || Cluster::make(workspace, keep))?;
    step("load the images and deploy", || cluster.deploy(&image))?;
    step("start servers and clients", || cluster.traffic())?;
    let records = step("word of all the traffic", || cluster.settle())?;
    println!(
        "All {} flows and {} findings of the scenario are there, in {} lines.",
        FLOWS.len(),
        FINDINGS.len(),
        records.len()
    );
    if keep {
        println!("the cluster stays: KUBECONFIG={}", cluster.kubeconfig.display());
    }
    Ok(())
}

/// A cluster of kind; deleted when dropped, unless it is to be kept.
struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
    root: PathBuf,
    keep: bool,
}

impl Cluster {
    fn make(workspace: &Workspace, keep: bool) -> Result<Self> {
        let folder = ebpf::target(workspace.root()).join("kind");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let cluster = Self {
            kubectl: kubernetes::kubectl(workspace),
            kubeconfig: folder.join("kubeconfig"),
            root: workspace.root().to_owned(),
            folder,
            keep,
        };
        cluster.delete();
        let config = cluster.folder.join("cluster.yaml");
        // Two nodes, so that there are flows from one to the other.
        let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n- role: worker\n";
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut kind = cluster.kind(&["create", "cluster", "--wait", ROLLOUT]);
        process::run(kind.arg("--config").arg(&config))?;
        Ok(cluster)
    }

    fn kind(&self, args: &[&str]) -> Command {
        let mut kind = Command::new("kind");
        kind.args(args).args(["--name", CLUSTER]).env("KUBECONFIG", &self.kubeconfig);
        kind
    }

    fn delete(&self) {
        if let Err(error) = process::run(&mut self.kind(&["delete", "cluster"])) {
            eprintln!("the cluster {CLUSTER} stays behind: {error:#}");
        }
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.args(args).env("KUBECONFIG", &self.kubeconfig).current_dir(&self.root);
        kubectl
    }

    fn apply(&self, objects: &str) -> Result<()> {
        let mut kubectl = self.kubectl(&["apply", "--filename", "-"]);
        let mut child = kubectl.stdin(Stdio::piped()).spawn().context("run kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(objects.as_bytes()).context("write to kubectl")?;
        }
        let status = child.wait().context("wait for kubectl")?;
        ensure!(status.success(), "kubectl apply: {status}");
        Ok(())
    }

    fn deploy(&self, image: &image::Image) -> Result<()> {
        process::run(self.kind(&["load", "image-archive"]).arg(&image.archive))?;
        process::run(&mut self.kind(&["load", "docker-image", CLIENTS]))?;
        let overlay = self.folder.join("overlay");
        fs::create_dir_all(&overlay).with_context(|| format!("create {}", overlay.display()))?;
        let file = overlay.join("kustomization.yaml");
        fs::write(&file, overlay_of(&self.root, &overlay, &image.name)?)
            .with_context(|| format!("write {}", file.display()))?;
        process::run(self.kubectl(&["apply", "--kustomize"]).arg(&overlay))?;
        let rollout =
            ["rollout", "status", "daemonset/plainsight", "--namespace", "plainsight", "--timeout", ROLLOUT];
        process::run(&mut self.kubectl(&rollout))
    }

    fn traffic(&self) -> Result<()> {
        let certificate = pods::certificate(&self.folder)?;
        self.apply(&pods::servers(CLIENTS, &certificate))?;
        for (namespace, name) in pods::SERVERS {
            let pod = format!("pod/{name}");
            let ready =
                ["wait", "--for", "condition=Ready", &pod, "--namespace", namespace, "--timeout", ROLLOUT];
            process::run(&mut self.kubectl(&ready))?;
        }
        self.apply(&pods::clients(CLIENTS, &certificate))
    }

    /// Waits until the nodes' logs say all that they must, and gives their lines.
    fn settle(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let waited = wait::until("word of all the traffic", SETTLE, || {
            records = self.records()?;
            Ok(missing(&records).is_empty().then_some(()))
        });
        let faults = [missing(&records), forbidden(&records)].concat();
        if !faults.is_empty() {
            bail!("the detector's word is not what it should be:\n  {}", faults.join("\n  "));
        }
        waited?;
        self.alerts()?;
        Ok(records)
    }

    fn nodes(&self) -> Result<Vec<String>> {
        let get = [
            "get",
            "pods",
            "--namespace",
            "plainsight",
            "--output",
            "name",
            "--selector",
            "app.kubernetes.io/name=plainsight",
        ];
        Ok(process::output(&mut self.kubectl(&get))?.lines().map(str::to_owned).collect())
    }

    fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for pod in self.nodes()? {
            let logs = ["logs", "--namespace", "plainsight", "--tail", "-1", &pod];
            records.extend(process::output(&mut self.kubectl(&logs))?.lines().filter_map(Record::read));
        }
        Ok(records)
    }

    /// What an alert would be raised by stands in some node's metrics.
    fn alerts(&self) -> Result<()> {
        let mut active = Vec::new();
        for pod in self.nodes()? {
            let name = pod.trim_start_matches("pod/");
            let path = format!("/api/v1/namespaces/plainsight/pods/{name}:9464/proxy/metrics");
            let metrics = process::output(&mut self.kubectl(&["get", "--raw", &path]))?;
            active.extend(active_findings(&metrics));
        }
        for (id, severity, ..) in FINDINGS {
            let wanted = ((*id).to_owned(), (*severity).to_owned());
            ensure!(active.contains(&wanted), "no node counts {severity} {id} as active: {active:?}");
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.keep {
            self.delete();
        }
    }
}

/// Id and severity of the findings that metrics count as active.
fn active_findings(metrics: &str) -> Vec<(String, String)> {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let lines = metrics.lines().filter(|line| line.starts_with("plainsight_findings_active{"));
    let counted = lines.filter(|line| line.rsplit(' ').next() != Some("0"));
    counted.filter_map(|line| Some((label(line, "id")?, label(line, "severity")?))).collect()
}

/// A kustomization of the base with this image and a line for each flow.
fn overlay_of(root: &Path, overlay: &Path, image: &str) -> Result<String> {
    let below = overlay.strip_prefix(root).context("the target folder lies outside of the workspace")?;
    let up = "../".repeat(below.components().count());
    let (name, tag) = image.rsplit_once(':').context("an image without a tag")?;
    Ok(format!(
        "\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{up}deploy/kustomize/base]
images: [{{name: {repository}, newName: {name}, newTag: {tag}}}]
patches:
- target: {{kind: DaemonSet, name: plainsight}}
  patch: |-
    - {{op: add, path: /spec/template/spec/containers/0/args/-, value: --log-flows}}
    - {{op: replace, path: /spec/template/spec/containers/0/imagePullPolicy, value: Never}}
",
        repository = image::REPOSITORY,
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{active_findings, overlay_of};

    #[test]
    fn active_findings_are_read_by_label_and_none_is_active_at_zero() {
        let metrics = "# HELP plainsight_findings_active x\nplainsight_findings_active{id=\"plaintext-mcp\",severity=\"high\"} 2\nplainsight_findings_active{id=\"weak-tls\",severity=\"low\"} 0\nother{id=\"a\",severity=\"b\"} 1\n";
        assert_eq!(active_findings(metrics), [("plaintext-mcp".to_owned(), "high".to_owned())]);
    }

    #[test]
    fn the_overlay_finds_the_base_from_where_it_lies() {
        let text = overlay_of(Path::new("/a"), Path::new("/a/target/kind/overlay"), "localhost/plainsight:1")
            .unwrap();
        assert!(text.contains("resources: [../../../deploy/kustomize/base]"), "{text}");
        assert!(overlay_of(Path::new("/a"), Path::new("/b"), "x:1").is_err());
    }
}
