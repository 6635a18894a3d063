//! Owns a small Kubernetes node made of network namespaces: the host side, and one namespace a pod.
//!
//! Laid out as kindnet does it, a veth a pod, whose host end carries the gateway's address, and a host route
//! to each pod address; or as flannel does it, with the host ends on one bridge that carries the gateway's
//! address. Nothing is made in the machine's own network namespace.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    manifests,
    netns::{self, NetNs},
    process::Process,
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1);

/// What the node is called in the manifests.
pub const NODE_NAME: &str = "node-a";
/// The node's own address.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);

/// What a pod is declared as.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its container's ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Names of its other containers, such as a mesh's proxy.
    pub containers: Vec<String>,
}

impl PodSpec {
    /// A pod with the namespace's default service account and the label `app`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            service_account: "default".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            annotations: BTreeMap::new(),
            ports: BTreeMap::new(),
            containers: Vec::new(),
        }
    }

    /// Sets the service account.
    #[must_use]
    pub fn service_account(mut self, name: &str) -> Self {
        self.service_account = name.to_owned();
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a container.
    #[must_use]
    pub fn container(mut self, name: &str) -> Self {
        self.containers.push(name.to_owned());
        self
    }

    /// Declares a port.
    #[must_use]
    pub fn port(mut self, name: &str, port: u16) -> Self {
        self.ports.insert(name.to_owned(), port);
        self
    }
}

/// A pod that the manifests name, and that has its addresses, but no interface.
#[derive(Clone, Debug)]
pub struct PlannedPod {
    /// What it is declared as.
    pub spec: PodSpec,
    /// Its number on the node, which its addresses end in.
    number: u8,
    /// How many pods had the number before.
    generation: u16,
}

impl PlannedPod {
    /// Another pod at the addresses, and with the interface's name, of this one, which has ended then.
    #[must_use]
    pub fn successor(&self, spec: PodSpec) -> Self {
        Self { spec, number: self.number, generation: self.generation + 1 }
    }

    /// What Kubernetes tells it from all others by.
    #[must_use]
    pub(crate) fn uid(&self) -> String {
        let number = (u64::from(self.generation) << 32) | u64::from(u32::from(self.ipv4()));
        format!("00000000-0000-4000-8000-{number:012x}")
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        let [a, b, c, _] = GATEWAY.octets();
        Ipv4Addr::new(a, b, c, self.number)
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        let [a, b, c, d, ..] = GATEWAY6.segments();
        Ipv6Addr::new(a, b, c, d, 0, 0, 0, self.number.into())
    }

    /// Name of the host end of its veth.
    #[must_use]
    pub fn interface(&self) -> String {
        format!("veth{:08x}", 0x00ab_cd00_u32 | u32::from(self.number))
    }
}

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    plan: PlannedPod,
    netns: NetNs,
}

impl Pod {
    /// What it is declared as, and its addresses.
    #[must_use]
    pub fn plan(&self) -> &PlannedPod {
        &self.plan
    }

    /// Its namespace and name, as `namespace/name`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.plan.spec.namespace, self.plan.spec.name)
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.plan.ipv4().into()
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        self.plan.ipv6().into()
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// A command that runs `program` in the pod.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.netns.command(program)
    }

    /// Starts a command made by [`Self::command`].
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        let program = command.get_args().nth(2).map(|program| program.to_string_lossy().into_owned());
        let program = program.unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        Process::spawn(format!("{program} in {}", self.id()), command)
    }
}

/// The node. Pods must be dropped for their interfaces to go.
#[derive(Debug)]
pub struct Node {
    group: String,
    netns: NetNs,
    planned: Vec<PlannedPod>,
    bridged: bool,
}

impl Node {
    /// [`Self::new`], with its pods on a bridge.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn bridged() -> Result<Self> {
        let node = Self::new()?;
        let host = &node.netns;
        host.ip("link add cni0 type bridge")?;
        host.ip(&format!("address add {GATEWAY}/24 dev cni0"))?;
        host.ip(&format!("address add {GATEWAY6}/64 dev cni0 nodad"))?;
        host.ip("link set cni0 up")?;
        Ok(Self { bridged: true, ..node })
    }

    /// Makes a node without pods, and removes what killed runs left behind.
    ///
    /// # Errors
    ///
    /// Not root, or the namespaces cannot be made.
    pub fn new() -> Result<Self> {
        netns::remove_leftovers()?;
        let group = netns::unique_group()?;
        let netns = NetNs::new(format!("{group}-node"))?;
        netns.ip(&format!("address add {NODE_ADDRESS}/32 dev lo"))?;
        netns.run(|| {
            set_kernel_option("net/ipv4/ip_forward", "1")?;
            set_kernel_option("net/ipv6/conf/all/forwarding", "1")?;
            // Loose: a source needs a route, not a route through the interface that it came from.
            set_kernel_option("net/ipv4/conf/all/rp_filter", "2")?;
            set_kernel_option("net/ipv4/conf/default/rp_filter", "2")
        })?;
        Ok(Self { group, netns, planned: Vec::new(), bridged: false })
    }

    /// The host side's network namespace.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Gives a pod its addresses without starting it, so that manifests can name it first.
    ///
    /// # Errors
    ///
    /// The node's addresses are used up.
    pub fn plan(&mut self, spec: PodSpec) -> Result<PlannedPod> {
        // 1 is the gateway.
        let Ok(number) = u8::try_from(self.planned.len() + 2) else { bail!("no address left on the node") };
        let plan = PlannedPod { spec, number, generation: 0 };
        self.planned.push(plan.clone());
        Ok(plan)
    }

    /// Lays the node's side of a planned pod's network: what its interface is found by.
    ///
    /// # Errors
    ///
    /// `ip` refuses.
    pub fn route(&self, plan: &PlannedPod, interface: &str) -> Result<()> {
        let host = &self.netns;
        // Without duplicate address detection: an address must be usable at once.
        host.ip(&format!("address replace {GATEWAY}/32 dev {interface}"))?;
        host.ip(&format!("address replace {GATEWAY6}/128 dev {interface} nodad"))?;
        host.ip(&format!("link set {interface} up"))?;
        host.ip(&format!("-4 route replace {} dev {interface}", plan.ipv4()))?;
        host.ip(&format!("-6 route replace {} dev {interface}", plan.ipv6()))
    }

    /// Gives a planned pod its namespace and its interface.
    ///
    /// # Errors
    ///
    /// The namespace or the interface cannot be made.
    pub fn start(&self, plan: &PlannedPod) -> Result<Pod> {
        let PodSpec { namespace, name, .. } = &plan.spec;
        let netns = NetNs::new(format!("{}-{namespace}.{name}", self.group))?;
        let interface = plan.interface();
        let host = &self.netns;
        host.ip(&format!("link add {interface} type veth peer name eth0 netns {}", netns.name()))?;
        if self.bridged {
            host.ip(&format!("link set {interface} master cni0"))?;
            host.ip(&format!("link set {interface} up"))?;
        } else {
            self.route(plan, &interface)?;
        }
        let (ipv4, ipv6) = (plan.ipv4(), plan.ipv6());
        // Without duplicate address detection, as above.
        let (length4, length6) = if self.bridged { (24, 64) } else { (32, 128) };
        netns.ip(&format!("address add {ipv4}/{length4} dev eth0"))?;
        netns.ip(&format!("address add {ipv6}/{length6} dev eth0 nodad"))?;
        netns.ip("link set eth0 up")?;
        for (family, gateway) in [("-4", IpAddr::from(GATEWAY)), ("-6", GATEWAY6.into())] {
            if !self.bridged {
                netns.ip(&format!("{family} route replace {gateway} dev eth0"))?;
            }
            netns.ip(&format!("{family} route replace default via {gateway} dev eth0"))?;
        }
        Ok(Pod { plan: plan.clone(), netns })
    }

    /// Plans and starts a pod.
    ///
    /// # Errors
    ///
    /// As [`Self::plan`] and [`Self::start`].
    pub fn pod(&mut self, spec: PodSpec) -> Result<Pod> {
        let plan = self.plan(spec)?;
        self.start(&plan)
    }

    /// Starts a program on the host side.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        Process::spawn(format!("{name} on the node"), command)
    }

    /// Writes the node and every planned pod as Kubernetes YAML into `folder`, and `extra` beside them.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn manifests(&self, folder: &Path, extra: &str) -> Result<()> {
        let planned: Vec<&PlannedPod> = self.planned.iter().collect();
        self.manifests_of(folder, &planned, extra)
    }

    /// [`Self::manifests`], of these pods.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn manifests_of(&self, folder: &Path, pods: &[&PlannedPod], extra: &str) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        write("node.yaml", &manifests::node())?;
        write("pods.yaml", &pods.iter().map(|pod| manifests::pod(pod)).collect::<String>())?;
        write("policy.yaml", extra)
    }
}

fn set_kernel_option(path: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(path), value).with_context(|| format!("set {path}"))
}
