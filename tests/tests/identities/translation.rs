//! Services on the wire: the client's interface shows the service's address, the server's the pod's, for the
//! node translates in between. Each connection is told once, between the pods.

use std::{collections::BTreeMap, net::SocketAddr};

use detector_tests::{
    daemon::{self, Daemon},
    nat::Translation,
    netns,
    node::{NODE_ADDRESS, Node, Pod, PodSpec},
    process::Process,
};

use super::rig::{address, fetch, flow, flows, serve};

const CLUSTER_IPS: [&str; 2] = ["10.96.0.10", "fd00:10:96::10"];
const EXTERNAL: &str = "203.0.113.80";
const BALANCER: &str = "198.51.100.80";
const PORT: u16 = 8000;
const NODE_PORT: u16 = 30080;

struct Cluster {
    #[expect(dead_code, reason = "held, so that they serve as long as the cluster")]
    processes: Vec<Process>,
    servers: Vec<Pod>,
    client: Pod,
    folder: tempfile::TempDir,
    node: Node,
}

impl Cluster {
    /// A client, and a service with as many pods behind it.
    fn new(servers: usize) -> Self {
        let mut node = Node::new().unwrap();
        let server = |number| PodSpec::new("tools", &format!("server-{number}"));
        let servers: Vec<Pod> = (0..servers).map(|number| node.pod(server(number)).unwrap()).collect();
        let client = node.pod(PodSpec::new("agents", "client")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let slice = |family: &str, addresses: Vec<String>| {
            let endpoints: String =
                addresses.iter().map(|address| format!("- addresses: [\"{address}\"]\n")).collect();
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: tools\n  name: tools-{family}\n  labels:\n    kubernetes.io/service-name: tools\naddressType: {family}\nports:\n- name: http\n  port: {PORT}\nendpoints:\n{endpoints}"
            )
        };
        let [v4, v6] = CLUSTER_IPS;
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  namespace: tools\n  name: tools\nspec:\n  type: NodePort\n  clusterIP: {v4}\n  clusterIPs: [\"{v4}\", \"{v6}\"]\n  externalIPs: [\"{EXTERNAL}\"]\n  ports:\n  - name: http\n    port: 80\n    nodePort: {NODE_PORT}\n    targetPort: {PORT}\n    protocol: TCP\n  selector:\n    app: tools\nstatus:\n  loadBalancer:\n    ingress:\n    - ip: {BALANCER}\n"
        );
        let slices = slice("IPv4", servers.iter().map(|pod| pod.ip().to_string()).collect())
            + &slice("IPv6", servers.iter().map(|pod| pod.ipv6().to_string()).collect());
        node.manifests(folder.path(), &(service + &slices)).unwrap();
        let processes = servers.iter().map(|pod| serve(pod, PORT)).collect();
        Self { processes, servers, client, folder, node }
    }

    /// Leads these addresses to the pods, as kube-proxy would.
    fn proxy(&self, addresses: &[SocketAddr]) {
        let translations: Vec<_> = addresses
            .iter()
            .map(|from| {
                let to = |pod: &Pod| if from.is_ipv4() { pod.ip() } else { pod.ipv6() };
                let to: Vec<_> = self.servers.iter().map(|pod| SocketAddr::new(to(pod), PORT)).collect();
                Translation::new(*from, &to)
            })
            .collect();
        self.node.translate(&translations).unwrap();
    }

    fn daemon(&self) -> Daemon<'_> {
        Daemon::start(&self.node, &daemon::binary().unwrap(), self.folder.path(), None).unwrap()
    }
}

#[test]
fn a_connection_through_a_service_is_one_edge_between_the_pods_over_both_families() {
    if !netns::require_root() {
        return;
    }
    let cluster = Cluster::new(1);
    let addresses = CLUSTER_IPS.map(|text| address(text, 80));
    cluster.proxy(&addresses);
    let daemon = cluster.daemon();
    for address in addresses {
        for _connection in 0..3 {
            fetch(&cluster.client, address);
        }
    }
    let expected = BTreeMap::from([flow("agents/client", "tools/server-0", PORT.into(), 6)]);
    assert_eq!(flows(daemon), expected);
}

#[test]
fn node_ports_external_addresses_and_balancers_lead_to_the_pod_too() {
    if !netns::require_root() {
        return;
    }
    let cluster = Cluster::new(1);
    let node = SocketAddr::new(NODE_ADDRESS.into(), NODE_PORT);
    let addresses = [node, address(EXTERNAL, 80), address(BALANCER, 80)];
    cluster.proxy(&addresses);
    let daemon = cluster.daemon();
    for address in addresses {
        fetch(&cluster.client, address);
    }
    let expected = BTreeMap::from([flow("agents/client", "tools/server-0", PORT.into(), 3)]);
    assert_eq!(flows(daemon), expected);
}

#[test]
fn connections_that_a_service_spreads_are_counted_with_the_pods_that_served_them() {
    if !netns::require_root() {
        return;
    }
    let cluster = Cluster::new(2);
    let [cluster_ip, _] = CLUSTER_IPS.map(|text| address(text, 80));
    cluster.proxy(&[cluster_ip]);
    let daemon = cluster.daemon();
    for _connection in 0..6 {
        fetch(&cluster.client, cluster_ip);
    }
    let expected = BTreeMap::from([
        flow("agents/client", "tools/server-0", PORT.into(), 3),
        flow("agents/client", "tools/server-1", PORT.into(), 3),
    ]);
    assert_eq!(flows(daemon), expected);
}
