//! Owns the names by which user space finds programs, maps and globals in the object.

/// Program on a pod interface's ingress: what the pod sends.
pub const DETECT_INGRESS: &str = "detect_ingress";
/// Program on a pod interface's egress: what the pod receives.
pub const DETECT_EGRESS: &str = "detect_egress";
/// Program that user space runs with a list of flow keys to remove those that are idle.
pub const EXPIRE: &str = "expire";

/// Hash map of the flows that are undecided or worth watching.
pub const FLOWS: &str = "FLOWS";
/// Array map of reference counts in front of [`FLOWS`].
pub const FILTER: &str = "FILTER";
/// Hash map of the edges.
pub const EDGES: &str = "EDGES";
/// Ring buffer of events.
pub const EVENTS: &str = "EVENTS";
/// LRU hash map of the hellos that go on in the next segment of their flow.
pub const HELLOS: &str = "HELLOS";
/// Per-CPU array of counters.
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU array of one entry: work memory and the budget.
pub const SCRATCH: &str = "SCRATCH";

/// Global, `u32`: a packet that misses the filter is looked at if its hash is below this.
pub const SAMPLE_BELOW: &str = "SAMPLE_BELOW";
/// Global, `u32`: nanoseconds of each millisecond that packets may take on one CPU beyond settled ones.
pub const BUDGET_NS_PER_MS: &str = "BUDGET_NS_PER_MS";
/// Global, `u32`: bytes of each body that are scanned.
pub const SCAN_WINDOW: &str = "SCAN_WINDOW";
/// Global, `u64`: nanoseconds of silence after which a flow is removed.
pub const IDLE_NS: &str = "IDLE_NS";
