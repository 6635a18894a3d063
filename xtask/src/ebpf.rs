//! Builds the eBPF object `detector-bpf`; owns the tools it takes and how cargo is called for it.
//!
//! `detector/build.rs` includes this file, so that `cargo build` and `cargo xtask build-ebpf` cannot drift
//! apart. It must therefore stand on std and anyhow alone. It looks for tools and never installs any: that
//! is set-up's part.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// The package that holds the programs, and the target they are compiled for.
const PACKAGE: &str = "detector-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// The name of the object's binary target.
pub(crate) const OBJECT: &str = "detector-bpf";

/// Without it the linker has LLVM call `memcpy` and `memset`, which go byte by byte, for the shortest copy too.
/// Calls cost old verifiers dear: those of Linux 5.10 and 6.1 cannot trace a value back over one, and then take
/// every state for one of its own.
const INLINE_COPIES: &str = "-Clink-arg=--disable-expand-memcpy-in-order";

/// What the object is built for. Both are fully optimised, for the verifier's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// With debug assertions, by which the programs decide to log.
    Debug,
    /// What ships.
    Release,
}

impl Flavour {
    /// The cargo profile, declared in the workspace's Cargo.toml.
    fn profile(self) -> &'static str {
        match self {
            Self::Debug => "bpf-debug",
            Self::Release => "bpf",
        }
    }
}

/// The compiler, as it describes itself.
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) release: String,
    pub(crate) llvm_major: u32,
    pub(crate) sysroot: PathBuf,
}

impl Compiler {
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        let ask = |args: &[&str]| -> Result<String> {
            let asked = Command::new(&rustc).args(args).current_dir(root).output();
            let output = asked.with_context(|| format!("run {}", rustc.display()))?;
            ensure!(output.status.success(), "{} {} failed", rustc.display(), args.join(" "));
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let version = ask(&["-vV"])?;
        let field = |name: &str| {
            let mut lines = version.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.with_context(|| format!("`rustc -vV` names no {name}"))
        };
        let llvm = field("LLVM version")?;
        let major = llvm.split('.').next().unwrap_or(llvm);
        Ok(Self {
            release: field("release")?.to_owned(),
            llvm_major: major.parse().with_context(|| format!("LLVM version {llvm}"))?,
            sysroot: PathBuf::from(ask(&["--print", "sysroot"])?.trim()),
            rustc,
        })
    }

    /// Where core's source is.
    pub(crate) fn core_source(&self, root: &Path) -> Option<CoreSource> {
        let has_core = |library: &Path| library.join("core/src/lib.rs").is_file();
        if has_core(&self.sysroot.join("lib/rustlib/src/rust/library")) {
            return Some(CoreSource::Sysroot);
        }
        let library = self.unpacked_source(root);
        has_core(&library).then_some(CoreSource::Unpacked(library))
    }

    /// Where set-up puts the folder `library` of a distribution's package of the source.
    pub(crate) fn unpacked_source(&self, root: &Path) -> PathBuf {
        tools(root).join(format!("rust-src-{}", self.release))
    }

    /// Whether this linker runs and reads the bitcode of this compiler, found out by linking a function.
    pub(crate) fn accepts_linker(&self, linker: &Path) -> Result<bool> {
        let scratch = env::temp_dir().join(format!("plainsight-link-probe-{}", process::id()));
        let (bitcode, object) = (scratch.with_extension("bc"), scratch.with_extension("o"));
        let mut compile = Command::new(&self.rustc);
        compile.args(["-", "--crate-name=probe", "--crate-type=lib", "--emit=llvm-bc", "-o"]).arg(&bitcode);
        let mut child = compile.stdin(Stdio::piped()).spawn().context("run rustc")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"#![no_std]\n#[unsafe(no_mangle)]\npub fn probe() -> u32 { 7 }\n")?;
        }
        let compiled = child.wait().context("run rustc")?;
        let mut link = Command::new(linker);
        link.args(["--export", "probe", "-o"]).arg(&object).arg(&bitcode);
        let linked = link.stdout(Stdio::null()).stderr(Stdio::null()).status();
        for file in [&bitcode, &object] {
            let _absent_if_a_step_failed = std::fs::remove_file(file);
        }
        ensure!(compiled.success(), "rustc cannot write bitcode into {}", env::temp_dir().display());
        Ok(linked.is_ok_and(|status| status.success()))
    }

    /// The first bpf-linker that works with this compiler: set-up's own, then the one on PATH.
    pub(crate) fn linker(&self, root: &Path) -> Result<Option<PathBuf>> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [tools(root).join("bin")].into_iter().chain(env::split_paths(&path));
        for linker in folders.map(|folder| folder.join("bpf-linker")).filter(|file| file.is_file()) {
            if self.accepts_linker(&linker)? {
                return Ok(Some(linker));
            }
        }
        Ok(None)
    }
}

/// Where `-Z build-std` finds core.
pub(crate) enum CoreSource {
    /// In the toolchain, where cargo looks by itself.
    Sysroot,
    /// In this folder.
    Unpacked(PathBuf),
}

/// Where cargo keeps what it downloaded.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).context("neither CARGO_HOME nor HOME is set")
}

/// Flags by which the folders of this machine are called something else in what is built, so that it is the
/// same wherever that was. The compiler takes the last that fits.
pub(crate) fn remap(root: &Path, sysroot: &Path) -> Result<Vec<String>> {
    let folders = [
        (root.to_owned(), "/plainsight"),
        (tools(root), "/rust"),
        (cargo_home()?.join("registry/src"), "/crates"),
        (sysroot.join("lib/rustlib/src/rust"), "/rust"),
    ];
    let flag = |(from, to): &(PathBuf, _)| format!("--remap-path-prefix={}={to}", from.display());
    Ok(folders.iter().map(flag).collect())
}

/// Everything that building for BPF takes.
pub(crate) struct Tools {
    root: PathBuf,
    remap: Vec<String>,
    linker: PathBuf,
    core_source: CoreSource,
}

impl Tools {
    /// Looks for the tools; an error names the one command that provides them.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let compiler = Compiler::find(root)?;
        let Some(core_source) = compiler.core_source(root) else {
            bail!("no source of core for rustc {}: run `cargo xtask setup`", compiler.release);
        };
        let Some(linker) = compiler.linker(root)? else {
            bail!("no bpf-linker for LLVM {}: run `cargo xtask setup`", compiler.llvm_major);
        };
        let remap = remap(root, &compiler.sysroot)?;
        Ok(Self { root: root.to_owned(), remap, linker, core_source })
    }

    /// A cargo command (`build`, `clippy`) on the programs, for BPF.
    pub(crate) fn cargo(&self, verb: &str, flavour: Flavour) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        // What an outer cargo, or clippy, set for the host must not reach the build for BPF.
        for name in
            ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"]
        {
            command.env_remove(name);
        }
        // aya-ebpf and build-std use unstable features; this lets the stable compiler build them, here only.
        command.env("RUSTC_BOOTSTRAP", "1");
        if let CoreSource::Unpacked(library) = &self.core_source {
            // Cargo's own test hook: the toolchain's folder stays as it was installed.
            command.env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
        }
        let linker = format!("-Clinker={}", self.linker.display());
        // BTF is made from the debug information. Debug assertions are there for logging: with core's own
        // checks for undefined behaviour the flavours would differ in stack and size, and tests see one only.
        let flags = ["-Cdebuginfo=2", "-Zub-checks=no", &linker, "-Clink-arg=--btf", INLINE_COPIES];
        let flags: Vec<&str> = flags.into_iter().chain(self.remap.iter().map(String::as_str)).collect();
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        command.arg(verb).args(["--package", PACKAGE, "--bin", OBJECT, "--target", TARGET]);
        command.args(["-Z", "build-std=core", "--profile", flavour.profile()]);
        // A folder of its own: the outer cargo holds the lock of the usual one.
        command.arg("--target-dir").arg(bpf_target(&self.root)).current_dir(&self.root);
        command
    }
}

/// Where the object lies after a build.
pub(crate) fn object(root: &Path, flavour: Flavour) -> PathBuf {
    bpf_target(root).join(TARGET).join(flavour.profile()).join(OBJECT)
}

/// Where set-up keeps what it installs.
pub(crate) fn tools(root: &Path) -> PathBuf {
    target(root).join("tools")
}

/// The workspace's target folder.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn bpf_target(root: &Path) -> PathBuf {
    target(root).join("bpf")
}
