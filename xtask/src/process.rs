//! Runs the commands that xtask is made of, and shows that they progress.

use std::{
    fs::{self, File},
    io::{IsTerminal as _, Write as _, stderr},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::interrupt::{self, Guarded};

/// How often a long silent step says that it still runs, where the output is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How many of a failed command's last lines are shown.
const TAIL: usize = 20;

/// Runs a command whose own output shows its progress.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    interrupt::check()?;
    let mut child = spawn(command)?;
    let _told = Guarded::new(child.id());
    let status = child.wait().with_context(|| format!("wait for {}", name(command)))?;
    interrupt::check()?;
    succeed(command, status)
}

/// Runs a command whose output matters only when it fails: kept in `log`, of which the end is then shown.
pub(crate) fn quiet(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    interrupt::check()?;
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let errors = output.try_clone().context("duplicate the log's handle")?;
    let mut child = spawn(command.stdin(Stdio::null()).stdout(output).stderr(errors))?;
    let told = Guarded::new(child.id());
    let status = wait_showing(what, &mut child)?;
    drop(told);
    interrupt::check()?;
    if !status.success() {
        let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            eprintln!("    | {line}");
        }
        eprintln!("    (all of it: {})", log.display());
    }
    succeed(command, status)
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    output_bytes(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// [`output`], of a command that does not print text.
pub(crate) fn output_bytes(command: &mut Command) -> Result<Vec<u8>> {
    interrupt::check()?;
    let output = command.output().with_context(|| format!("run {}", name(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", name(command), output.status, errors.trim());
    }
    Ok(output.stdout)
}

/// Runs a step under its name, and says how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let made = work().with_context(|| format!("step `{name}` failed"))?;
    eprintln!("    {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(made)
}

/// Whether a program of this name is on PATH.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.process_group(0).spawn().with_context(|| format!("run {}", name(command)))
}

fn wait_showing(what: &str, child: &mut Child) -> Result<ExitStatus> {
    let start = Instant::now();
    let terminal = stderr().is_terminal();
    let pace = if terminal { Duration::from_secs(1) } else { HEARTBEAT };
    let mut next = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait for a command")? {
            break status;
        }
        if start.elapsed() >= next {
            let seconds = next.as_secs();
            if terminal {
                eprint!("\r    {what} … {seconds} s");
                let _closed_output = stderr().flush();
            } else if seconds == 0 {
                eprintln!("    {what} …");
            } else {
                eprintln!("    {what} … {seconds} s");
            }
            next += pace;
        }
        thread::sleep(Duration::from_millis(50));
    };
    if terminal {
        eprint!("\r\u{1b}[K");
    }
    let outcome = if status.success() { "done" } else { "failed" };
    eprintln!("    {what}: {outcome}, {:.1} s", start.elapsed().as_secs_f64());
    Ok(status)
}

fn succeed(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{}: {status}", name(command));
    }
    Ok(())
}

/// The program and its first argument, which is what tells a reader which command it was.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    match command.get_args().next() {
        Some(first) => format!("`{program} {}`", first.to_string_lossy()),
        None => format!("`{program}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{output, quiet, run};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_and_its_status() {
        let error = run(&mut shell("exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c`: exit status: 3");
        let error = output(&mut shell("echo why >&2; exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c`: exit status: 3: why");
    }

    #[test]
    fn a_quiet_command_leaves_its_output_in_the_log() {
        let log = std::env::temp_dir().join(format!("plainsight-xtask-{}.log", std::process::id()));
        let outcome = quiet("talking", &mut shell("echo out; echo err >&2"), &log);
        let text = fs::read_to_string(&log);
        fs::remove_file(&log).unwrap();
        outcome.unwrap();
        assert_eq!(text.unwrap(), "out\nerr\n");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("/nonexistent/tool")).unwrap_err();
        assert_eq!(error.to_string(), "run `tool`");
    }
}
