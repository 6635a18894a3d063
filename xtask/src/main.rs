//! `cargo xtask`: set-up, build, demo, tests and CI of Plainsight.
//!
//! Everything that a command needs it gets by itself: each begins with set-up, which does only what is missing.
//! The last line of a failure says what to do.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{ebpf::Flavour, workspace::Workspace};

mod bench;
mod build;
mod ci;
mod demo;
mod dependencies;
mod ebpf;
mod image;
mod interrupt;
mod json;
mod kind;
mod manifests;
mod process;
mod setup;
mod soak;
mod test;
mod vm;
mod workspace;

/// `sysexits.h`: the command was used wrongly.
const EX_USAGE: u8 = 64;

/// Set-up, build, demo, tests and CI of Plainsight.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the other commands need: only what is missing, under target/ where possible
    Setup,
    /// Build the eBPF object and print where it is
    BuildEbpf {
        /// Build what ships, without logging in the kernel
        #[arg(long)]
        release: bool,
    },
    /// Make a small node out of network namespaces, run MCP in it, and show what Plainsight sees (root)
    Demo {
        /// Leave everything running, and print how to look at it
        #[arg(long)]
        keep: bool,
    },
    /// Run all tests; those that load eBPF programs need root
    Test {
        /// Arguments for `cargo test`, such as a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure the performance bars on this machine, each beside its comparison (root)
    Bench {
        /// Print one JSON object instead of the table
        #[arg(long)]
        json: bool,
        /// Take fewer and shorter measurements: to see that it works, not to compare
        #[arg(long)]
        quick: bool,
        /// Groups of rows to measure [default: all]; `list` names them
        names: Vec<String>,
    },
    /// Boot the kernels that Plainsight is claimed for in virtual machines, and run in them what loads programs (root)
    Vm {
        /// Kernels, such as 5.10 [default: all]
        versions: Vec<String>,
        /// Suites, such as `programs` [default: all]
        #[arg(long = "suite", value_name = "NAME")]
        suites: Vec<String>,
        /// Tests, each by a part of its name [default: all]
        #[arg(long = "test", value_name = "NAME")]
        tests: Vec<String>,
    },
    /// Render the Helm chart into the kustomize base and check all of deploy/ with Helm, kubectl and schemas
    Manifests {
        /// Write nothing: fail if what is there is not what is rendered
        #[arg(long)]
        check: bool,
    },
    /// Make the container image as an OCI archive, with its SBOM beside it, under target/image
    Image {
        /// What it is to run on [default: this machine's]
        #[arg(long)]
        arch: Option<image::binary::Architecture>,
        /// Build it a second time elsewhere, compare the bytes, and run the demo's scenario with it (root)
        #[arg(long)]
        check: bool,
    },
    /// Deploy the image in a cluster of kind and assert what the demo asserts (needs Docker and kind)
    Kind {
        /// Leave the cluster running
        #[arg(long)]
        keep: bool,
    },
    /// Make traffic for long, with pods that come and go and an API server that fails, and check the books (root)
    Soak {
        /// How long
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        minutes: u32,
    },
    /// Check the dependencies: licences, sources, double versions, known holes
    Dependencies,
    /// Run what CI runs: format, lints, dependencies, docs, manifests, tests, the oldest and the newest kernel
    Ci,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            let _closed_output = usage.print();
            let asked = matches!(usage.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EX_USAGE) };
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::raised().is_some() => {
            eprintln!("interrupted");
            interrupt::exit_code()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    interrupt::install()?;
    let workspace = Workspace::find()?;
    match command {
        Command::Setup => setup::ensure(&workspace),
        Command::BuildEbpf { release } => {
            build::ebpf(&workspace, if release { Flavour::Release } else { Flavour::Debug })
        }
        Command::Demo { keep } => {
            workspace.require_root("the demo makes network namespaces and loads eBPF programs", "demo")?;
            setup::ensure(&workspace)?;
            let plainsight = build::plainsight(&workspace)?;
            demo::run(demo::Options { keep, plainsight })
        }
        Command::Soak { minutes } => {
            workspace.require_root("the soak makes network namespaces and loads eBPF programs", "soak")?;
            setup::ensure(&workspace)?;
            soak::run(&build::plainsight(&workspace)?, minutes)
        }
        Command::Test { args } => test::run(&workspace, &args),
        Command::Bench { json, quick, names } => {
            let flags = [("--json", json), ("--quick", quick)];
            let flags = flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag.to_owned());
            bench::run(&workspace, &flags.chain(names).collect::<Vec<_>>())
        }
        Command::Vm { versions, suites, tests } => {
            vm::run(&workspace, &vm::Selection::new(versions, &suites, &tests))
        }
        Command::Manifests { check } => manifests::run(&workspace, check),
        Command::Image { arch, check } => {
            let architecture = arch.unwrap_or(image::binary::Architecture::own());
            image::run(&workspace, &image::Options { architecture, check }).map(drop)
        }
        Command::Kind { keep } => kind::run(&workspace, keep),
        Command::Dependencies => dependencies::run(&workspace),
        Command::Ci => ci::run(&workspace),
    }
}
