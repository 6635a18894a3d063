//! A private apt: packages of other Debian suites, fetched and unpacked without touching the system.
//!
//! Its lists and cache lie in one folder under `target/`, removed at the end; the mirror is the one that the
//! system's apt uses, and signatures are checked against Debian's keyring.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{on_path, output, quiet};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Of the mirror.
    Debian(&'static str),
    /// Of the mirror of security updates, if the system has one.
    Security(&'static str),
}

pub(crate) struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Prepares the folder and fetches the lists.
    pub(crate) fn create(folder: PathBuf, sources: &[Source], log: &Path) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            ensure!(on_path(program), "{program} is not installed");
        }
        ensure!(Path::new(KEYRING).is_file(), "{KEYRING} is not installed");
        let debian = mirror("/debian/")?.context("apt-get knows no Debian mirror")?;
        let security = mirror("/debian-security/")?;
        remove(&folder)?;
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("create {}", folder.display()))?;
        }
        let line = |source: &Source| {
            let (mirror, suite) = match source {
                Source::Debian(suite) => (Some(&debian), suite),
                Source::Security(suite) => (security.as_ref(), suite),
            };
            mirror.map(|mirror| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
        };
        let sources: String = sources.iter().filter_map(line).collect();
        fs::write(folder.join("sources.list"), sources).context("write sources.list")?;
        let apt = Self { folder };
        quiet("fetching Debian's package lists", apt.command("apt-get").arg("update"), log)?;
        Ok(apt)
    }

    /// The version of a package that packages this upstream version.
    pub(crate) fn version_of(&self, package: &str, upstream: &str) -> Result<String> {
        let table = output(self.command("apt-cache").args(["madison", package]))?;
        let version = pick(&table, upstream);
        Ok(version.with_context(|| format!("Debian has no {package} {upstream}"))?.to_owned())
    }

    /// Downloads a package and moves one folder out of it to `into`, which appears complete or not at all.
    pub(crate) fn extract(
        &self,
        package: &str,
        version: &str,
        inner: &str,
        into: &Path,
        log: &Path,
    ) -> Result<()> {
        let unpacked = self.fetch(&format!("{package}={version}"), log)?;
        remove(into)?;
        let inner = unpacked.join(inner);
        fs::rename(&inner, into).with_context(|| format!("rename {} to {}", inner.display(), into.display()))
    }

    /// The names of the packages that match a pattern, one a line.
    pub(crate) fn names(&self, pattern: &str) -> Result<String> {
        let found = output(self.command("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(found.lines().filter_map(|line| line.split(' ').next()).flat_map(|name| [name, "\n"]).collect())
    }

    /// Downloads those of the packages that there are and moves all that is in them to `into`, which appears
    /// complete or not at all.
    pub(crate) fn unpack(&self, packages: &[&str], into: &Path, log: &Path) -> Result<()> {
        let mut unpacked = None;
        for package in packages {
            let there = self.names(&format!("^{}$", package.replace('.', "[.]").replace('+', "[+]")))?;
            if !there.is_empty() {
                unpacked = Some(self.fetch(package, log)?);
            }
        }
        let unpacked = unpacked.with_context(|| format!("Debian has none of {}", packages.join(", ")))?;
        if let Some(parent) = into.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::rename(&unpacked, into)
            .with_context(|| format!("rename {} to {}", unpacked.display(), into.display()))
    }

    /// Downloads a package, and unpacks it beside what was unpacked before.
    fn fetch(&self, package: &str, log: &Path) -> Result<PathBuf> {
        let download = self.folder.join("download");
        remove(&download)?;
        fs::create_dir_all(&download).with_context(|| format!("create {}", download.display()))?;
        let mut get = self.command("apt-get");
        get.arg("download").arg(package).current_dir(&download);
        quiet(&format!("downloading {package}"), &mut get, log)?;
        let mut files = fs::read_dir(&download).with_context(|| format!("read {}", download.display()))?;
        let Some(Ok(archive)) = files.next() else {
            bail!("apt-get downloaded nothing into {}", download.display());
        };
        let unpacked = self.folder.join("unpacked");
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(archive.path()).arg(&unpacked);
        quiet(&format!("unpacking {package}"), &mut dpkg, log)?;
        Ok(unpacked)
    }

    fn command(&self, program: &str) -> Command {
        let option = |name: &str, file: &str| {
            let mut option = OsString::from(format!("{name}="));
            option.push(self.folder.join(file));
            option
        };
        let mut command = Command::new(program);
        command.arg("-o").arg(option("Dir::Etc::sourcelist", "sources.list"));
        command.arg("-o").arg(option("Dir::State::lists", "lists"));
        command.arg("-o").arg(option("Dir::Cache", "cache"));
        for fixed in [
            "Dir::Etc::sourceparts=/dev/null",
            // The sandbox's user cannot read a checkout in somebody's home.
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ] {
            command.args(["-o", fixed]);
        }
        command
    }
}

impl Drop for PrivateApt {
    fn drop(&mut self) {
        let _only_takes_space = remove(&self.folder);
    }
}

/// The version in a table of `apt-cache madison` whose upstream part is this.
fn pick<'a>(table: &'a str, upstream: &str) -> Option<&'a str> {
    let mut versions = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    // What Debian appends begins with one of these; a digit or a dot would continue the upstream version.
    versions
        .find(|version| version.strip_prefix(upstream).is_some_and(|rest| rest.starts_with(['+', '-', '~'])))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

/// The mirror of the system's own apt whose address ends so.
fn mirror(end: &str) -> Result<Option<String>> {
    let mut ask = Command::new("apt-get");
    let known = output(ask.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]))?;
    Ok(known.lines().find(|line| line.ends_with(end)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::pick;

    const TABLE: &str = "  rust-src | 1.97.1+dfsg1-1 | mirror testing/main amd64 Packages
  rust-src | 1.95.0+dfsg1-2~bpo13+1 | mirror trixie-backports/main amd64 Packages
";

    #[test]
    fn the_package_of_the_same_upstream_version_is_picked_not_the_newest() {
        assert_eq!(pick(TABLE, "1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(pick(TABLE, "1.97.1"), Some("1.97.1+dfsg1-1"));
    }

    #[test]
    fn a_version_that_only_begins_alike_is_not_picked() {
        assert_eq!(pick(TABLE, "1.95"), None);
        assert_eq!(pick(TABLE, "1.97"), None);
        assert_eq!(pick("", "1.95.0"), None);
    }
}
