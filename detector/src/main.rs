//! The command `plainsight`: parses, checks, sets the log up, and hands over.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Parser as _;
use detector::{
    app,
    args::{Cli, Command, CoverageArgs, LogFormat, ReplayArgs, RunArgs},
    cli,
    config::{Config, ConfigError},
    coverage,
    outputs::one_line::OneLine,
    replay,
};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// `EX_USAGE` of sysexits.h: the command line was wrong, and starting again will not help.
const USAGE: u8 = 64;
/// A finding of the severity that `--fail-on` names.
const FOUND: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and go to standard output.
            let _closed = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Run(args) => run(*args),
        Command::Replay(args) => replay(args),
        Command::Audit(args) => finish(cli::audit(args)),
        Command::Detach(args) => finish(cli::detach(&args.pin).map(|()| ExitCode::SUCCESS)),
        Command::Crds => finish(cli::crds().map(|()| ExitCode::SUCCESS)),
        Command::Explain(args) => finish(cli::explain(args).map(|()| ExitCode::SUCCESS)),
        Command::Readiness(args) => finish(cli::readiness(*args)),
        Command::Coverage(CoverageArgs { admin }) => coverage(admin),
    }
}

/// The end of a command that looks once.
fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: RunArgs) -> ExitCode {
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(error) => return usage(error),
    };
    start_log(&config);
    match app::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn replay(args: ReplayArgs) -> ExitCode {
    let options = match replay::Options::try_from(args) {
        Ok(options) => options,
        Err(error) => return usage(error),
    };
    match replay::run(&options) {
        Ok(replay::Outcome::Passed) => ExitCode::SUCCESS,
        Ok(replay::Outcome::Failed) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn coverage(admin: SocketAddr) -> ExitCode {
    let written = coverage::ask(admin).and_then(|text| io::stdout().write_all(text.as_bytes()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: ask the daemon at {admin}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: ConfigError) -> ExitCode {
    eprintln!("error: {:#}", anyhow::Error::new(error));
    ExitCode::from(USAGE)
}

fn start_log(config: &Config) {
    // Parsed once already, so the default never speaks.
    let mut filter: Targets = config.log.parse().unwrap_or_default();
    // kube logs every failed request as an error; the watches say what it means, once.
    if !filter.iter().any(|(target, _)| target.starts_with("kube")) {
        filter = filter.with_target("kube_client", LevelFilter::OFF);
    }
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.log_format {
        LogFormat::Text => layer.fmt_fields(OneLine).with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
