//! The daemon's own log: as text or JSON, and as much of it as is asked for. The daemon ends by itself here,
//! for the address to listen on is nobody's; without root it ends before that.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::process::Command;

use detector_tests::daemon;
use serde_json::Value;

/// Lines of the log of a start that fails.
fn log(flags: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(daemon::binary().unwrap());
    command.args(["run", "--node-name", "node-a", "--listen", "192.0.2.1:1"]).args(flags);
    command
        .env_remove("PLAINSIGHT_LOG")
        .env_remove("PLAINSIGHT_LOG_FORMAT")
        .envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "the log is on standard error");
    String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn as_json_each_line_is_an_object_with_time_level_target_and_message() {
    for lines in [log(&["--log-format", "json"], &[]), log(&[], &[("PLAINSIGHT_LOG_FORMAT", "json")])] {
        assert!(lines.len() >= 2, "{lines:#?}");
        for line in &lines {
            let line: Value = serde_json::from_str(line).unwrap();
            for member in ["timestamp", "level", "target"] {
                assert!(line[member].is_string(), "{line}");
            }
            assert!(line["fields"]["message"].is_string(), "{line}");
        }
        let first: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&first["level"], &first["fields"]["message"]), (&"INFO".into(), &"starting".into()));
    }
}

#[test]
fn as_text_it_has_no_colours_where_nobody_looks_at_a_terminal() {
    let lines = log(&[], &[]);
    assert!(lines[0].contains(" INFO detector::app: starting"), "{lines:#?}");
    assert!(lines.last().unwrap().contains("ERROR"), "{lines:#?}");
    assert!(!lines.concat().contains('\u{1b}'), "{lines:#?}");
}

#[test]
fn the_filter_takes_levels_and_directives_by_module() {
    let has = |lines: &[String], what: &str| lines.iter().any(|line| line.contains(what));
    let errors = log(&["--log", "error"], &[]);
    assert!(!has(&errors, "INFO") && has(&errors, "ERROR"), "{errors:#?}");
    assert_eq!(log(&["--log", "off"], &[]), [""; 0]);
    let one = log(&["--log", "error,detector::app=info"], &[]);
    assert!(has(&one, "starting") && has(&one, "ERROR"), "{one:#?}");
    let other = log(&["--log", "error,detector::admin=info"], &[]);
    assert!(!has(&other, "starting") && has(&other, "ERROR"), "{other:#?}");
    let environment = log(&[], &[("PLAINSIGHT_LOG", "off")]);
    assert_eq!(environment, [""; 0]);
    assert!(has(&log(&["--log", "detector=loud"], &[]), "--log \"detector=loud\""));
}
