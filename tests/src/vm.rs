//! What `cargo xtask vm` and the first process of its machines agree on: suites, and the report of them.
//!
//! Both are lines of text: suites lie in the machine's first file system, the report comes over a serial port.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// The serial port that the report goes to. The first is the kernel's.
pub const REPORT: &str = "/dev/ttyS1";
/// What a line of the machine itself begins with.
pub const MACHINE: &str = "@machine";
/// The name of the host's files as the machine sees them.
pub const SHARE: &str = "host";
/// Where the machine has the programs that came with its first file system, in its memory.
pub const PROGRAMS: &str = "/run/programs";

/// A program that the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// What the report calls it: one word.
    pub name: String,
    /// The folder that it runs in.
    pub folder: String,
    /// Its path.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its environment.
    pub environment: BTreeMap<String, String>,
    /// How long it may take, in whole seconds; then it is killed with all that it started.
    pub deadline: Duration,
}

impl Suite {
    /// The suite as text. No part may have a tab or a line break.
    #[must_use]
    pub fn write(&self) -> String {
        let Self { name, folder, program, arguments, environment, deadline } = self;
        let deadline = deadline.as_secs();
        let mut text = format!("suite\t{name}\nfolder\t{folder}\nprogram\t{program}\ndeadline\t{deadline}\n");
        for argument in arguments {
            let _never_fails = writeln!(text, "argument\t{argument}");
        }
        for (key, value) in environment {
            let _never_fails = writeln!(text, "environment\t{key}\t{value}");
        }
        text
    }

    /// Reads suites that were written one after the other. Lines that say nothing are passed over.
    #[must_use]
    pub fn read_all(text: &str) -> Vec<Self> {
        let mut suites: Vec<Self> = Vec::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once('\t')) {
            let value = value.to_owned();
            if key == "suite" {
                suites.push(Self {
                    name: value,
                    folder: String::new(),
                    program: String::new(),
                    arguments: Vec::new(),
                    environment: BTreeMap::new(),
                    deadline: Duration::ZERO,
                });
                continue;
            }
            let Some(suite) = suites.last_mut() else { continue };
            match key {
                "folder" => suite.folder = value,
                "program" => suite.program = value,
                "argument" => suite.arguments.push(value),
                "deadline" => suite.deadline = Duration::from_secs(value.parse().unwrap_or_default()),
                "environment" => {
                    if let Some((key, value)) = value.split_once('\t') {
                        suite.environment.insert(key.to_owned(), value.to_owned());
                    }
                }
                _ => {}
            }
        }
        suites
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Suite;

    #[test]
    fn suites_are_read_as_they_were_written() {
        let suite = |name: &str| Suite {
            name: name.to_owned(),
            folder: "/a folder".to_owned(),
            program: "/bin/true".to_owned(),
            arguments: vec!["--skip".to_owned(), String::new()],
            environment: [("PATH", "/bin:/sbin"), ("EMPTY", "")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            deadline: Duration::from_secs(90),
        };
        let suites = [suite("one"), suite("two")];
        assert_eq!(Suite::read_all(&suites.iter().map(Suite::write).collect::<String>()), suites);
    }
}
