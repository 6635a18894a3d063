//! Owns the object as the tests load it: by itself, attached to nothing, fed by `BPF_PROG_TEST_RUN`.

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use detector::datapath::OBJECT;
use detector_ebpf::{
    budget::Budget,
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    event::Record,
    flow::{Flow, FlowKey},
    names, track,
};

/// The interface that a test run passes: the loopback of its namespace.
pub(crate) const IFINDEX: u32 = 1;

/// `TC_ACT_UNSPEC`: the next program decides.
const UNSPEC: i32 = -1;

pub(crate) struct Kernel {
    ebpf: Ebpf,
    events: RingBuf<MapData>,
}

impl Kernel {
    pub(crate) fn load(sample_below: u32) -> Self {
        Self::load_with(sample_below, 1024, Budget::UNLIMITED)
    }

    pub(crate) fn load_with(sample_below: u32, max_flows: u32, budget: u32) -> Self {
        let mut ebpf = EbpfLoader::new()
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global(names::SAMPLE_BELOW, &sample_below, true)
            .override_global(names::BUDGET_NS_PER_MS, &budget, true)
            .override_global(names::IDLE_NS, &0_u64, true)
            .map_max_entries(names::FLOWS, max_flows)
            .load(OBJECT)
            .unwrap();
        for name in [names::DETECT_INGRESS, names::DETECT_EGRESS, names::EXPIRE] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            if let Err(error) = program.load() {
                panic!("{name}: {error:?}");
            }
        }
        let events = RingBuf::try_from(ebpf.take_map(names::EVENTS).unwrap()).unwrap();
        Self { ebpf, events }
    }

    pub(crate) fn verified_instructions(&mut self, name: &str) -> Option<u32> {
        self.program(name).info().unwrap().verified_instruction_count()
    }

    /// Sends a frame through a program, which must leave it as it is to whoever comes next.
    ///
    /// False if the kernel does not take the frame for a run: it wants whole network headers.
    pub(crate) fn packet(&mut self, frame: &[u8], from_pod: bool) -> bool {
        let name = if from_pod { names::DETECT_INGRESS } else { names::DETECT_EGRESS };
        let mut out = vec![0; frame.len() + 64];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        match self.program(name).test_run(options) {
            Ok(result) => {
                assert_eq!(result.return_value.cast_signed(), UNSPEC);
                assert_eq!(&out[..frame.len()], frame, "the program changed the frame");
                true
            }
            Err(error) => {
                assert!(frame.len() < 14 + 40, "a whole frame is refused: {error:?}");
                false
            }
        }
    }

    /// Empties the maps, which is faster than loading them anew.
    pub(crate) fn reset(&mut self) {
        self.expire();
        assert_eq!(self.flows(), 0);
        let edges = self.edges();
        let map = self.ebpf.map_mut(names::EDGES).unwrap();
        let mut map = HashMap::<_, EdgeKey, EdgeValue>::try_from(map).unwrap();
        for (key, _) in edges {
            map.remove(&key).unwrap();
        }
        self.events();
        let cpus = aya::util::nr_cpus().unwrap();
        let map = self.ebpf.map_mut(names::COUNTERS).unwrap();
        let mut map = PerCpuArray::<_, u64>::try_from(map).unwrap();
        for counter in Counter::ALL {
            let zeros = PerCpuValues::try_from(vec![0; cpus]).unwrap();
            map.set(counter as u32, zeros, 0).unwrap();
        }
    }

    /// Removes what is idle, as the daemon does.
    pub(crate) fn expire(&mut self) -> u32 {
        let keys: Vec<FlowKey> = self.flow_map().keys().map(Result::unwrap).collect();
        let mut removed = 0;
        for keys in keys.chunks(32) {
            let mut data = vec![0; 14];
            for key in keys {
                data.extend(key.to_bytes());
            }
            let options = TestRunOptions { data_in: Some(&data), ..TestRunOptions::default() };
            removed += self.program(names::EXPIRE).test_run(options).unwrap().return_value;
        }
        removed
    }

    pub(crate) fn edges(&self) -> Vec<(EdgeKey, EdgeValue)> {
        let map = HashMap::<_, EdgeKey, EdgeValue>::try_from(self.ebpf.map(names::EDGES).unwrap()).unwrap();
        map.iter().map(Result::unwrap).collect()
    }

    /// Flows that are counted as quiet.
    pub(crate) fn quiet_flows(&self) -> usize {
        let flows = self.flow_map();
        flows.iter().map(Result::unwrap).filter(|(_, flow)| flow.flags & Flow::QUIET != 0).count()
    }

    pub(crate) fn flows(&self) -> usize {
        self.flow_map().keys().count()
    }

    /// Takes what is in the ring buffer: the number of events, and the hellos' server names.
    pub(crate) fn events(&mut self) -> (usize, Vec<Vec<u8>>) {
        let mut count = 0;
        let mut names = Vec::new();
        while let Some(record) = self.events.next() {
            match Record::parse(&record).unwrap() {
                Record::Event(_) => count += 1,
                Record::Hello(hello) => names.push(hello.hello.server_name().to_vec()),
            }
        }
        (count, names)
    }

    pub(crate) fn counters(&self) -> [u64; Counter::COUNT as usize] {
        let map = PerCpuArray::<_, u64>::try_from(self.ebpf.map(names::COUNTERS).unwrap()).unwrap();
        Counter::ALL.map(|counter| map.get(&(counter as u32), 0).unwrap().iter().sum())
    }

    /// The filter counts exactly the flows that are tracked.
    pub(crate) fn assert_filter_is_exact(&self) {
        let flows: Vec<(FlowKey, Flow)> = self.flow_map().iter().map(Result::unwrap).collect();
        let expected = track::filter_of(flows.iter().map(|(key, flow)| (key, flow)));
        let filter = Array::<_, u32>::try_from(self.ebpf.map(names::FILTER).unwrap()).unwrap();
        let filter: Vec<u32> = filter.iter().map(Result::unwrap).collect();
        assert_eq!(filter, expected);
    }

    /// The bytes of all maps but the ring buffer and the object's own data.
    pub(crate) fn memory(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let map = self.flow_map();
        let flows = map.iter().map(Result::unwrap).flat_map(|(key, flow)| [raw(&key), raw(&flow)].concat());
        let flows = flows.collect();
        let edges = self.edges().iter().flat_map(|(key, value)| [raw(key), raw(value)].concat()).collect();
        let mut events = Vec::new();
        while let Some(record) = self.events.next() {
            events.extend_from_slice(&record);
        }
        vec![(names::FLOWS, flows), (names::EDGES, edges), (names::EVENTS, events)]
    }

    fn flow_map(&self) -> HashMap<&MapData, FlowKey, Flow> {
        HashMap::try_from(self.ebpf.map(names::FLOWS).unwrap()).unwrap()
    }

    fn program(&mut self, name: &str) -> &mut SchedClassifier {
        self.ebpf.program_mut(name).unwrap().try_into().unwrap()
    }
}

/// The bytes of a value as the map holds them.
#[expect(unsafe_code, reason = "reads plain old data as bytes")]
fn raw<T: aya::Pod>(value: &T) -> Vec<u8> {
    // SAFETY: the type is plain old data without padding, by its `Pod`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }.to_vec()
}
