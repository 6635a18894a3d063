//! The command `plainsight`: parses, checks, sets the log up, and hands over.

use std::process::ExitCode;

use clap::Parser as _;
use detector::{
    app,
    args::{Cli, Command, ReplayArgs, RunArgs},
    cli,
    config::{Config, ConfigError},
    logging, replay,
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
        Command::Audit(args) => finish(cli::audit(*args)),
        Command::Detach(args) => finish(cli::detach(&args.pin).map(|()| ExitCode::SUCCESS)),
        Command::Crds => finish(cli::crds().map(|()| ExitCode::SUCCESS)),
        Command::Explain(args) => finish(cli::explain(args).map(|()| ExitCode::SUCCESS)),
        Command::Top(args) => finish(cli::top(args).map(|()| ExitCode::SUCCESS)),
        Command::Coverage(args) => finish(cli::coverage(args).map(|()| ExitCode::SUCCESS)),
        Command::Readiness(args) => finish(cli::readiness(*args)),
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
    let log = logging::start(&config.log, config.log_format);
    match app::run(config, log) {
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

fn usage(error: ConfigError) -> ExitCode {
    eprintln!("error: {:#}", anyhow::Error::new(error));
    ExitCode::from(USAGE)
}
