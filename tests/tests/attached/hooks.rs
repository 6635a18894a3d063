//! What sits on the hooks of an interface, and by what a daemon says that it is attached.

use std::time::Duration;

use aya::programs::{SchedClassifier, tc::TcAttachType};
use detector_tests::{daemon::Daemon, netns::NetNs, process::Process};

const LIMIT: Duration = Duration::from_secs(10);

/// The directions, as `tc` has them.
pub(crate) const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

/// How many of our programs sit on each hook of an interface: as TCX links, and as filters of clsact.
pub(crate) fn attached(host: &NetNs, interface: &str) -> [usize; 2] {
    let hooks = [TcAttachType::Ingress, TcAttachType::Egress];
    // A kernel that has no TCX refuses the question.
    let links = |hook| SchedClassifier::query_tcx(interface, hook).map_or(0, |(_, links)| links.len());
    let links = host.run(|| Ok(hooks.map(links))).unwrap();
    let filters = DIRECTIONS.map(|direction| ours(&filters(host, interface, direction)));
    [0, 1].map(|hook| links[hook] + filters[hook])
}

/// How many of these filters are ours.
pub(crate) fn ours(filters: &[String]) -> usize {
    filters.iter().filter(|filter| filter.contains(" plainsight_")).count()
}

/// The filters of a hook, in the order in which they run, each as `tc` prints it.
pub(crate) fn filters(host: &NetNs, interface: &str, direction: &str) -> Vec<String> {
    let shown = tc(host, &["filter", "show", "dev", interface, direction]);
    // A line for the priority as a whole comes before.
    shown.lines().filter(|line| line.contains(" handle ")).map(str::to_owned).collect()
}

/// Whether an interface has a clsact qdisc.
pub(crate) fn has_clsact(host: &NetNs, interface: &str) -> bool {
    tc(host, &["qdisc", "show", "dev", interface]).contains("clsact")
}

/// Runs `tc` on the host side, and gives what it prints.
pub(crate) fn tc(host: &NetNs, arguments: &[&str]) -> String {
    let mut command = host.command("tc");
    command.args(arguments);
    Process::spawn("tc", command).unwrap().succeed(LIMIT).unwrap()
}

/// The hook that a daemon says its programs sit on.
pub(crate) fn in_use(daemon: &Daemon<'_>) -> String {
    let metrics = daemon.metrics().unwrap();
    let of = |line: &str| {
        let (hook, count) =
            line.strip_prefix("plainsight_interfaces_attached{hook=\"")?.split_once("\"} ")?;
        (count != "0").then(|| hook.to_owned())
    };
    metrics.lines().find_map(of).unwrap()
}
