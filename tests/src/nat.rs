//! Owns what kube-proxy does on a node: connections to a service's address go to a pod, by nftables.

use std::{fmt::Write as _, io::Write as _, net::SocketAddr, process::Stdio};

use anyhow::{Context as _, Result, bail};

use crate::node::Node;

/// An address of a service, and the pods behind it, which take turns.
#[derive(Clone, Debug)]
pub struct Translation {
    /// What clients dial.
    pub from: SocketAddr,
    /// Where it leads.
    pub to: Vec<SocketAddr>,
}

impl Translation {
    /// A service's address and port, and the pods behind it.
    #[must_use]
    pub fn new(from: SocketAddr, to: &[SocketAddr]) -> Self {
        Self { from, to: to.to_vec() }
    }

    /// Its rules, the turns of an address one after the other.
    fn rules(&self) -> String {
        let Self { from, to } = self;
        let family = if from.is_ipv4() { "ip" } else { "ip6" };
        let mut rules = String::new();
        for (index, pod) in to.iter().enumerate() {
            // Each takes its share of what those before have left.
            let left = to.len() - index;
            let turn = if left > 1 { format!("numgen inc mod {left} 0") } else { String::new() };
            // Writing to a string cannot fail.
            let _never = writeln!(
                rules,
                "    {family} daddr {} tcp dport {} {turn} dnat {family} to {pod}",
                from.ip(),
                from.port(),
            );
        }
        rules
    }
}

impl Node {
    /// Leads connections to the addresses of services to pods, for pods and for the node's own processes, as
    /// kube-proxy does: after the programs on the client's interface have seen them.
    ///
    /// # Errors
    ///
    /// `nft` is missing or refuses.
    pub fn translate(&self, translations: &[Translation]) -> Result<()> {
        let rules: String = translations.iter().map(Translation::rules).collect();
        let chain = |name: &str, hook: &str| {
            format!("  chain {name} {{\n    type nat hook {hook} priority -100;\n{rules}  }}\n")
        };
        let table =
            format!("table inet services {{\n{}{}}}\n", chain("pods", "prerouting"), chain("node", "output"));
        let mut command = self.netns().command("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nft = command.spawn().context("start `nft`: install the package nftables")?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(table.as_bytes()).context("give `nft` its rules")?;
        }
        let output = nft.wait_with_output().context("wait for `nft`")?;
        if !output.status.success() {
            bail!("`nft` refuses\n{table}{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
