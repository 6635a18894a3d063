//! What a killed run left behind. A test program of its own: every node that another test makes at the same
//! time would remove it too.

use std::time::Duration;

use detector_tests::{
    netns::{self, NetNs},
    node::Node,
    process::Process,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_new_node_removes_what_a_killed_run_left_behind() {
    if !netns::require_root() {
        return;
    }
    // No process ever has the id 0.
    let left = NetNs::new("plainsight-0.1-0-left").unwrap();
    let mut command = left.command("sh");
    command.args(["-c", "echo inside; exec sleep 1000"]);
    let mut process = Process::spawn("sleep", command).unwrap();
    process.wait_while_running("word", LIMIT, |process| Ok(process.stdout().first().map(drop))).unwrap();
    let path = left.path();
    // As if this process had been killed: no destructor runs.
    std::mem::forget(left);
    drop(Node::new().unwrap());
    assert!(!path.exists());
    assert!(!process.wait(LIMIT).unwrap().success());
}
