//! Owns `/api/v1/readiness`: may the workloads of this node go to STRICT, by what this node saw?
//!
//! The answer is that of `plainsight readiness --admin`: the same rows, which that reads from the API's answers, are
//! turned into an observation and joined with what is declared by the same code. It is about the pods of this node;
//! where a workload has others, a note says so.

use std::{collections::HashMap, sync::Arc};

use super::pages::{Pages, Sources};
use crate::{
    audit::Inventory,
    cluster::{
        Store,
        objects::{Object, Pod},
    },
    flows::{Flow, FlowId, Timestamp},
    migration::{self, Observation, Options, QUIET, Report},
    outputs::{
        api::Api,
        migration::json,
        observed::{self, EdgeMap},
    },
    policy::PolicyObject,
};

/// Calls that are told of each workload; more would not be read by anybody.
const BREAKS: usize = 50;

impl Pages {
    /// The answer, from the flows that are remembered.
    pub(super) fn migration(&self, flows: &[(FlowId, Arc<Flow>)], now: Timestamp) -> Vec<u8> {
        let Sources { readiness, store, coverage, metrics, .. } = &self.sources;
        let source = observed::source(
            self.api.node_row(readiness.since()),
            Api::pod_rows(&coverage.report(&store.read())),
            EdgeMap::from(&metrics.kernel()),
        );
        let calls = flows.iter().filter_map(|(_, flow)| observed::call(self.api.flow_row(flow))).collect();
        let observation = Observation { sources: vec![source], calls };
        let (declared, elsewhere) = declared(&store.read());
        let mut inventory = Inventory::new(declared, [], None);
        inventory.heed(|pod| observation.speaks_mcp(pod));
        let mut report = migration::assess(&inventory, &observation, Options { now, quiet: QUIET }, None);
        shorten(&mut report);
        note_pods_elsewhere(&mut report, &elsewhere);
        json(&report, QUIET).into_bytes()
    }
}

/// A workload: namespace, kind, name.
type Workload = (String, String, String);

fn workload(pod: &Pod) -> Workload {
    let kind = pod.workload.kind.as_str().to_owned();
    (pod.name.namespace.to_string(), kind, pod.workload.name.to_string())
}

/// What is declared for the pods of this node, and how many pods their workloads have on others.
fn declared(store: &Store) -> (Vec<Object>, HashMap<Workload, usize>) {
    let (own, others): (Vec<_>, Vec<_>) =
        store.pods().partition(|pod| pod.node.as_deref() == Some(store.local_node()));
    let mut elsewhere: HashMap<Workload, usize> = own.iter().map(|pod| (workload(pod), 0)).collect();
    for pod in others {
        if let Some(count) = elsewhere.get_mut(&workload(pod)) {
            *count += 1;
        }
    }
    let mut objects: Vec<Object> = own.into_iter().map(|pod| Object::Pod((**pod).clone())).collect();
    objects.extend(store.services().map(|service| Object::Service((**service).clone())));
    objects.extend(store.namespaces().cloned().map(Object::Namespace));
    objects.extend(store.policy().objects().into_iter().cloned().map(|object| match object {
        PolicyObject::ExpectedSources(sources) => Object::ExpectedSources(sources),
        other => Object::Policy(Box::new(other)),
    }));
    (objects, elsewhere)
}

fn shorten(report: &mut Report) {
    for workload in &mut report.workloads {
        let all = workload.breaks.len();
        if all > BREAKS {
            workload.breaks.truncate(BREAKS);
            workload.notes.push(format!("{} more calls would be refused", all - BREAKS));
        }
    }
}

fn note_pods_elsewhere(report: &mut Report, elsewhere: &HashMap<Workload, usize>) {
    for of in &mut report.workloads {
        let key = (of.namespace.clone(), of.kind.clone(), of.name.clone());
        if let Some(count @ 1..) = elsewhere.get(&key) {
            of.notes.push(format!(
                "{count} more of its pods are on other nodes: `plainsight readiness` asks several daemons, or Prometheus"
            ));
        }
    }
}
