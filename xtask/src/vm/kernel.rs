//! Owns the kernels: which are run, where Debian has them, and what of them a machine needs.
//!
//! They are downloaded by package name through apt with lists of its own, unpacked and never installed, and
//! kept under `target/tools/kernels` from then on.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    process,
    setup::apt::{PrivateApt, Source},
    workspace::Workspace,
};

/// A kernel that is run.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What its version begins with.
    pub(crate) version: &'static str,
    /// Where Debian has it; the newest of all is taken.
    sources: &'static [Source],
}

/// The kernels that the README claims, the oldest first.
pub(crate) const KERNELS: [Wanted; 5] = [
    Wanted { version: "5.10", sources: &[Source::Debian("bullseye"), Source::Security("bullseye-security")] },
    Wanted { version: "6.1", sources: &[Source::Debian("bookworm"), Source::Security("bookworm-security")] },
    Wanted { version: "6.12", sources: &[Source::Debian("trixie"), Source::Security("trixie-security")] },
    Wanted { version: "6.18", sources: &[Source::Debian("trixie-backports")] },
    Wanted { version: "7", sources: &[Source::Debian("trixie-backports"), Source::Debian("sid")] },
];

/// What a machine needs that a kernel may have as a module: its root, and what the suites ask for.
const MODULES: [&str; 8] =
    ["virtio_pci", "virtiofs", "overlay", "veth", "bridge", "8021q", "sch_ingress", "cls_bpf"];

/// A kernel that is there.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) version: &'static str,
    pub(super) image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// Downloads those of the kernels that are not there yet.
    pub(super) fn get(workspace: &Workspace, wanted: &[&'static Wanted]) -> Result<Vec<Self>> {
        let place = |wanted: &Wanted| workspace.tools().join("kernels").join(wanted.version);
        let missing: Vec<&Wanted> = wanted.iter().copied().filter(|wanted| !place(wanted).is_dir()).collect();
        if !missing.is_empty() {
            let logs = workspace.tools().join("logs");
            let mut sources: Vec<Source> =
                missing.iter().flat_map(|wanted| wanted.sources).copied().collect();
            sources.sort_unstable();
            sources.dedup();
            let apt = PrivateApt::create(
                workspace.tools().join("apt-kernels"),
                &sources,
                &logs.join("kernels.log"),
            )?;
            for wanted in missing {
                let names =
                    apt.names(&format!("^linux-image-{}[.][0-9].*-cloud-amd64$", escaped(wanted.version)))?;
                let newest = newest(&names, wanted.version);
                let newest = newest.with_context(|| format!("Debian has no kernel {}", wanted.version))?;
                let release = newest.trim_start_matches("linux-image-");
                // Newer kernels come as one package that depends on these two, older ones whole.
                let parts =
                    ["linux-image", "linux-binary", "linux-modules"].map(|part| format!("{part}-{release}"));
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                apt.unpack(&parts, &place(wanted), &logs.join("kernels.log"))?;
            }
        }
        wanted.iter().map(|wanted| Self::find(wanted.version, &place(wanted))).collect()
    }

    fn find(version: &'static str, folder: &Path) -> Result<Self> {
        let mut image = None;
        let mut modules = BTreeMap::new();
        each_file(folder, &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("vmlinuz") {
                image = Some(path);
            } else if let Some((module, _)) = name.split_once(".ko") {
                modules.insert(module.replace('-', "_"), path);
            }
        })?;
        let image = image.with_context(|| format!("{} has no kernel: remove it", folder.display()))?;
        Ok(Self { version, image, modules })
    }

    /// The contents of the modules that a machine needs, each after those that it depends on. What is built in
    /// is none.
    pub(super) fn needed_modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut needed = Vec::new();
        for name in MODULES {
            self.add(name, &mut needed)?;
        }
        Ok(needed)
    }

    fn add(&self, name: &str, needed: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        let name = name.replace('-', "_");
        let Some(path) = self.modules.get(&name) else { return Ok(()) };
        if needed.iter().any(|(other, _)| *other == name) {
            return Ok(());
        }
        let content = content(path)?;
        for dependency in dependencies(&content) {
            self.add(&dependency, needed)?;
        }
        needed.push((name, content));
        Ok(())
    }
}

/// The packages' names have dots, which mean more to apt.
fn escaped(version: &str) -> String {
    version.replace('.', "[.]")
}

/// The numbers of a version, for comparison: 6.12.107 is newer than 6.12.43.
fn numbers(name: &str) -> Vec<u32> {
    let version = name.trim_start_matches("linux-image-");
    let numbers = version.split(|character: char| !character.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// The newest of the packages of a version.
fn newest<'a>(names: &'a str, version: &str) -> Option<&'a str> {
    let prefix = numbers(version);
    let fits = |name: &&str| numbers(name).starts_with(&prefix);
    // A rebuild of a kernel for an older release comes first where both are there.
    let own = |name: &&str| !name.contains("deb11") && !name.contains("deb12");
    names.lines().map(str::trim).filter(fits).filter(own).max_by_key(|name| numbers(name))
}

fn each_file(folder: &Path, found: &mut dyn FnMut(PathBuf)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each_file(&entry.path(), found)?;
        } else {
            found(entry.path());
        }
    }
    Ok(())
}

/// A module as the kernel takes it: those before Linux 5.17 take no compressed one.
fn content(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        return process::output_bytes(Command::new("xz").args(["--decompress", "--stdout"]).arg(path));
    }
    ensure!(path.extension().is_some_and(|extension| extension == "ko"), "{} is no module", path.display());
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The modules that a module names in its section `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let rest = module.get(at + KEY.len()..).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{dependencies, newest};

    const NAMES: &str = "linux-image-6.1.0-0.deb11.52-cloud-amd64
linux-image-6.1.0-50-cloud-amd64
linux-image-6.1.0-47-cloud-amd64
linux-image-6.12.117+deb13-cloud-amd64
linux-image-6.12.43+deb13-cloud-amd64
linux-image-7.2.13+deb14-cloud-amd64
linux-image-7.3.4+deb13-cloud-amd64
";

    #[test]
    fn the_newest_package_of_a_version_is_picked_by_its_numbers() {
        assert_eq!(newest(NAMES, "6.1"), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest(NAMES, "6.12"), Some("linux-image-6.12.117+deb13-cloud-amd64"));
        assert_eq!(newest(NAMES, "7"), Some("linux-image-7.3.4+deb13-cloud-amd64"));
        assert_eq!(newest(NAMES, "6.18"), None);
    }

    #[test]
    fn a_module_names_those_that_it_depends_on() {
        assert_eq!(dependencies(b"\x7fELF\0license=GPL\0depends=llc,stp\0name=bridge\0"), ["llc", "stp"]);
        assert!(dependencies(b"\x7fELF\0license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }
}
