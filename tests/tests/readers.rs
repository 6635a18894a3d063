//! What people look at: the web page in a browser and `plainsight top` in a terminal, with the real daemon.
#![expect(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use detector_tests::{
    clients,
    daemon::{self, ADMIN},
    netns,
    scenario::Scenario,
    wait,
};

/// From a key to what it does, and for a browser to start.
const WORD: Duration = Duration::from_secs(60);

/// A program on a terminal of its own, by `script` of util-linux, and what stands on its screen.
struct Terminal {
    process: std::process::Child,
    keys: std::process::ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: thread::JoinHandle<()>,
}

impl Terminal {
    fn start(mut command: Command, line: &str) -> Self {
        command.args(["--quiet", "--flush", "--return", "--command"]);
        command.arg(format!("stty rows 30 cols 140; exec {line}")).arg("/dev/null");
        command.env("TERM", "xterm-256color").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (keys, mut output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let size = |cells: u16| std::num::NonZeroU16::new(cells).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(30), size(140), 0)));
        let shown = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().process(buffer.get(..read).unwrap());
            }
        });
        Self { process, keys, screen, reader }
    }

    /// Presses keys, and waits until the screen has all of `words` and none of `gone`.
    fn press(&mut self, keys: &str, words: &[&str], gone: &[&str]) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
        let contents = || self.screen.lock().unwrap().screen().contents();
        wait::until(format!("{words:?} and not {gone:?} after {keys:?}"), WORD, || {
            let text = contents();
            let has = |word: &&str| text.contains(*word);
            Ok((words.iter().all(has) && !gone.iter().any(has)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", contents()));
    }

    /// Presses the last keys: whether it ended well, and left the screen as it was.
    fn end(self, keys: &str) -> (bool, bool) {
        let Self { mut process, keys: mut input, screen, reader } = self;
        assert!(screen.lock().unwrap().screen().alternate_screen());
        input.write_all(keys.as_bytes()).unwrap();
        input.flush().unwrap();
        let status = process.wait().unwrap();
        drop(input);
        reader.join().unwrap();
        let screen = screen.lock().unwrap();
        (status.success(), !screen.screen().alternate_screen() && !screen.screen().hide_cursor())
    }
}

#[test]
fn the_page_and_top_show_what_the_daemon_found() {
    if !netns::require_root() {
        return;
    }
    let scenario = Scenario::start().unwrap();
    let mut daemon = scenario.detector(&daemon::binary().unwrap()).unwrap();
    scenario.traffic().unwrap();
    scenario.verify(&mut daemon).unwrap();
    let node = scenario.node();

    let browser = clients::look_at_page(node, &format!("http://{ADMIN}/")).unwrap();
    let looked = browser.succeed(6 * WORD).unwrap();
    assert_eq!(looked.matches("ok  ").count(), 10, "{looked}");

    // Where there is no terminal: both tables once.
    let top = |more: &[&str]| {
        let mut command = node.netns().command(daemon::binary().unwrap());
        command.args(["top", "--admin", &ADMIN.to_string()]).args(more).stdin(Stdio::null());
        command
    };
    let output = top(&["--view", "flows"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plain = |line: &&str| {
        line.starts_with("plaintext\tmcp\tmcp-production/legacy-agent\tmcp-production/tool-executor:")
    };
    assert!(text.starts_with("VERDICT\tPROTOCOL\t") && text.lines().any(|line| plain(&line)), "{text}");
    assert!(text.lines().any(|line| line.starts_with("critical\tplaintext-mcp\t")), "{text}");

    // On a terminal: a table that obeys keys, and leaves the terminal as it was.
    let binary = daemon::binary().unwrap();
    let line = format!("'{}' top --admin {ADMIN}", binary.display());
    let mut terminal = Terminal::start(node.netns().command("script"), &line);
    terminal.press("", &["SEVERITY", "critical plaintext-mcp", "mcp-production/legacy-agent"], &["VERDICT"]);
    terminal.press("\t", &["VERDICT", "plaintext mcp", "secure-tools"], &["SEVERITY"]);
    terminal.press("/secure-tools\r", &["/secure-tools ", "mcp-production/secure-tools:"], &["legacy-agent"]);
    terminal.press("\x1b", &["mcp-production/legacy-agent"], &["/secure-tools "]);
    terminal.press("p", &["paused"], &[]);
    terminal.press("?", &["the row in full"], &[]);
    terminal.press("?\t\r", &["kind: "], &["the row in full"]);
    assert_eq!(terminal.end("q"), (true, true));

    // Nobody there is an error that says so.
    daemon.stop().unwrap();
    let output = top(&[]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains(&format!("ask the daemon at {ADMIN}")), "{error}");
}
