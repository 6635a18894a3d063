//! Owns what a machine reports of its suites, and the table of all of them.

use std::{fmt::Write as _, time::Duration};

use detector_tests::vm::MACHINE;

/// What a test's output says is worth a place in the table: the hook that the programs sat on.
const HOOK: &str = "attached by ";
/// What a test says that it could not try, and why: the kernel has not what it takes.
const SKIPPED: &str = "skipped: ";
/// What the verifier took, as the suite `programs` prints it: the program's name comes before.
const VERIFIED: &str = " instructions verified";

/// What one machine reported.
#[derive(Debug, Default)]
pub(super) struct Report {
    version: &'static str,
    kernel: Option<String>,
    suites: Vec<Outcome>,
    verified: Vec<(String, String)>,
    hooks: Vec<String>,
    trouble: Option<String>,
    done: bool,
}

/// What became of one suite.
#[derive(Debug, Default)]
struct Outcome {
    name: String,
    passed: u32,
    failed: Vec<String>,
    /// What its tests could not try.
    not_there: Vec<String>,
    /// How it ended and how many seconds it took; none while it runs.
    end: Option<(String, String)>,
    /// The test whose output is shown.
    of: String,
}

impl Report {
    pub(super) fn new(version: &'static str) -> Self {
        Self { version, ..Self::default() }
    }

    /// The report of a machine that could not be run.
    pub(super) fn of_none(version: &'static str, why: &anyhow::Error) -> Self {
        Self { trouble: Some(format!("{why:#}")), ..Self::new(version) }
    }

    pub(super) fn version(&self) -> &str {
        self.version
    }

    /// The kernel's release, once the machine has come up.
    pub(super) fn kernel(&self) -> Option<&str> {
        self.kernel.as_deref()
    }

    /// Takes a line; answers what of it is progress.
    pub(super) fn line(&mut self, line: &str) -> Option<String> {
        let mut words = line.split(' ');
        if words.next() == Some(MACHINE) {
            return self.own_line(&words.collect::<Vec<_>>());
        }
        if let Some(at) = line.find(HOOK) {
            let hook = line.get(at + HOOK.len()..).unwrap_or_default().trim().to_owned();
            if !self.hooks.contains(&hook) {
                self.hooks.push(hook);
            }
        }
        if let Some((before, _)) = line.split_once(VERIFIED)
            && let Some((program, count)) = before.split_once(": ")
        {
            self.verified.push((program.trim().to_owned(), count.to_owned()));
        }
        let suite = self.suites.last_mut()?;
        if let Some(test) = line.strip_prefix("---- ") {
            suite.of = test.trim_end_matches(" stdout ----").to_owned();
        } else if let Some(why) = line.strip_prefix(SKIPPED) {
            suite.not_there.push(format!("{}: {why}", suite.of));
        } else if let Some((test, outcome)) =
            line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... "))
        {
            match outcome {
                "ok" => suite.passed += 1,
                "FAILED" => suite.failed.push(test.to_owned()),
                _ => return None,
            }
            let word = if outcome == "ok" { "passed" } else { "FAILED" };
            return Some(format!("{}: {test} {word}", suite.name));
        }
        None
    }

    /// A line of the machine itself.
    fn own_line(&mut self, words: &[&str]) -> Option<String> {
        match *words {
            ["kernel", release] => {
                self.kernel = Some(release.to_owned());
                Some(format!("{release} is up"))
            }
            ["begin", name] => {
                self.suites.push(Outcome { name: name.to_owned(), ..Outcome::default() });
                None
            }
            ["end", _, seconds, ref how @ ..] => {
                let suite = self.suites.last_mut()?;
                suite.end = Some((how.join(" "), seconds.to_owned()));
                Some(format!("{}: {}", suite.name, suite.told()))
            }
            ["error", ref what @ ..] => {
                self.trouble = Some(what.join(" "));
                self.trouble.clone()
            }
            ["done"] => {
                self.done = true;
                None
            }
            _ => None,
        }
    }

    pub(super) fn give_up(&mut self, after: Duration) {
        self.trouble = Some(format!("no end within {} s", after.as_secs()));
    }

    /// Whether every suite ran to its end and passed.
    pub(super) fn passed(&self) -> bool {
        self.done && self.trouble.is_none() && self.suites.iter().all(Outcome::is_good)
    }

    fn verified(&self, program: &str) -> &str {
        let found = self.verified.iter().find(|(name, _)| name == program);
        found.map_or("-", |(_, count)| count)
    }
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.failed.is_empty() && self.passed > 0 && self.end.as_ref().is_some_and(|(how, _)| how == "passed")
    }

    fn told(&self) -> String {
        let Self { passed, failed, not_there, end, .. } = self;
        let Some((how, seconds)) = end else { return format!("no end, after {passed} passed") };
        let seconds = seconds.split('.').next().unwrap_or_default();
        let not_there =
            if not_there.is_empty() { String::new() } else { format!(", {} not there", not_there.len()) };
        match (failed.len(), self.is_good()) {
            (0, true) => format!("{passed} passed{not_there}, {seconds} s"),
            (0, false) => format!("{passed} passed, then {how}"),
            (count, _) => format!("{count} of {} failed", passed + u32::try_from(count).unwrap_or(u32::MAX)),
        }
    }
}

/// All reports as a table, and what went wrong or was left out below it.
pub(super) fn table(reports: &[Report]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in reports.iter().flat_map(|report| &report.suites).map(|suite| suite.name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let head = ["KERNEL", "HOOK", "INGRESS", "EGRESS", "EXPIRE"].map(str::to_owned);
    let mut rows =
        vec![head.into_iter().chain(names.iter().map(|name| name.to_uppercase())).collect::<Vec<_>>()];
    let mut notes = String::new();
    for report in reports {
        let kernel = report.kernel.as_deref().unwrap_or(report.version);
        let hooks = if report.hooks.is_empty() { "-".to_owned() } else { report.hooks.join(", ") };
        let verified =
            ["detect_ingress", "detect_egress", "expire"].map(|program| report.verified(program).to_owned());
        let mut row = vec![kernel.to_owned(), hooks];
        row.extend(verified);
        for name in &names {
            let suite = report.suites.iter().find(|suite| suite.name == *name);
            row.push(suite.map_or_else(|| "not run".to_owned(), Outcome::told));
        }
        rows.push(row);
        let mut note = |text: &str| {
            let _never_fails = writeln!(notes, "{kernel}: {text}");
        };
        if let Some(trouble) = &report.trouble {
            note(trouble);
        } else if !report.done {
            note("the machine ended before its suites: see its console.log");
        }
        for suite in &report.suites {
            for test in &suite.failed {
                note(&format!("{} failed: {test}", suite.name));
            }
            for what in &suite.not_there {
                note(&format!("not there: {} {what}", suite.name));
            }
        }
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(&notes);
    text
}

#[cfg(test)]
mod tests {
    use super::{Report, table};

    fn report(text: &str) -> Report {
        let mut report = Report::new("6.1");
        for line in text.lines() {
            let _progress = report.line(line);
        }
        report
    }

    const GOOD: &str = "@machine kernel 6.1.0-50
@machine begin programs
test a ... ok
test b ... ok
---- b stdout ----
detect_ingress: 509697 instructions verified, 248398 in the baseline
skipped: no such thing here
@machine end programs 12.3 passed
@machine begin netns
test c ... ok
attached by clsact
@machine end netns 1.0 passed
@machine done";

    #[test]
    fn a_report_is_told_in_a_row_and_in_notes() {
        let report = report(GOOD);
        assert!(report.passed());
        let table = table(&[report]);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["KERNEL", "HOOK", "INGRESS", "EGRESS", "EXPIRE", "PROGRAMS", "NETNS"]);
        assert_eq!(
            rows[1],
            ["6.1.0-50", "clsact", "509697", "-", "-", "2 passed, 1 not there, 12 s", "1 passed, 1 s"]
        );
        assert_eq!(rows[2], ["6.1.0-50: not there: programs b: no such thing here"]);
    }

    #[test]
    fn a_test_that_fails_and_a_machine_that_dies_are_no_success() {
        let failed = report(
            &GOOD.replace("test c ... ok", "test c ... FAILED").replace("1.0 passed", "1.0 exit status: 101"),
        );
        assert!(!failed.passed());
        assert!(table(&[failed]).contains("netns failed: c"));
        for cut in ["@machine done", "@machine end netns", "@machine begin netns", "@machine begin programs"]
        {
            let short = report(GOOD.split_once(cut).unwrap().0);
            assert!(!short.passed(), "{cut}");
        }
        assert!(!report("@machine kernel 6.1\n@machine error no root\n@machine done").passed());
        let empty =
            "@machine kernel 6.1\n@machine begin programs\n@machine end programs 1.0 passed\n@machine done";
        assert!(!report(empty).passed(), "a suite without a test");
    }
}
