//! Owns the kernel half: loads the object, attaches its programs, reads its maps.
//!
//! The only importer of aya. A program is never trusted to be where it was put: what cannot be attached is an
//! error with the interface's name, and what the kernel counts is read as it stands.

mod attach;
mod bpf;
mod clsact;
mod events;
mod info;
mod load;
mod maps;
mod pins;
mod remove;
mod runs;
mod takeover;

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aya::{Ebpf, maps::MapError, programs::ProgramError};
use detector_ebpf::{
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    names,
};

pub use self::{
    attach::{AttachError, Place},
    events::Events,
    load::{LoadError, OBJECT},
    pins::{Pins, PinsError},
    remove::{Removed, remove},
    runs::ProgramRuns,
    takeover::{Inheritance, Takeover},
};
use self::{
    attach::{Instances, Links},
    clsact::Cleared,
};

/// Sizes and settings of the kernel half.
#[derive(Clone, Copy, Debug)]
pub struct DatapathConfig {
    /// Flows that are undecided or watched at the same time.
    pub max_flows: u32,
    /// Edges that are counted in the kernel at the same time.
    pub max_edges: u32,
    /// One in this many packets of unknown flows is looked at; 0 for none.
    pub sample_one_in: u32,
    /// Nanoseconds of each millisecond that packets may take on one CPU beyond settled ones.
    pub budget_ns_per_ms: u32,
    /// Bytes of each body that are scanned.
    pub scan_window: u32,
    /// Silence after which a flow is removed.
    pub idle: Duration,
    /// Whether the kernel is asked to measure the programs' runs.
    pub statistics: bool,
    /// What the programs are attached by.
    pub hooks: HookChoice,
}

/// What programs are to be attached by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookChoice {
    /// TCX links, or filters of clsact where the kernel refuses them.
    #[default]
    Best,
    /// Filters of clsact, whatever the kernel has.
    Clsact,
}

impl FromStr for HookChoice {
    type Err = UnknownHook;

    fn from_str(name: &str) -> Result<Self, UnknownHook> {
        match name {
            "best" => Ok(Self::Best),
            "clsact" => Ok(Self::Clsact),
            _ => Err(UnknownHook),
        }
    }
}

/// No [`HookChoice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither `best` nor `clsact`")]
pub struct UnknownHook;

/// The programs, their maps and where they are attached.
#[derive(Debug)]
pub struct Datapath {
    ebpf: Mutex<Ebpf>,
    second: Instances,
    links: Mutex<HashMap<u32, Links>>,
    /// Links of a daemon before whose interfaces were not told of yet.
    kept: Mutex<takeover::Kept>,
    /// What edges held in maps of a daemon before, beyond what ours hold.
    base: Arc<takeover::Base>,
    pins: Option<Pins>,
    takeover: Takeover,
    config: DatapathConfig,
    /// Entries of the maps when they were last read: a scrape must not read them again.
    flows: AtomicU32,
    edges: AtomicU32,
    /// Held, so that the kernel measures the programs' runs.
    _statistics: Option<runs::Statistics>,
}

/// How an interface is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// By TCX links at the head (Linux 6.6).
    Tcx,
    /// By filters of a clsact qdisc.
    Clsact,
}

/// How full the maps are.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapFill {
    /// Flows that are tracked.
    pub flows: u32,
    /// Flows that there is room for.
    pub max_flows: u32,
    /// Edges that are counted.
    pub edges: u32,
    /// Edges that there is room for.
    pub max_edges: u32,
}

/// A map or a program could not be read or run.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The object has no map or program of this name.
    #[error("the eBPF object has no {0}")]
    Missing(&'static str),
    /// The kernel refused.
    #[error("read map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// The kernel refused to run a program.
    #[error("run program {name}")]
    Run {
        /// The program.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The kernel refused to tell of a program.
    #[error("ask for the runs of program {name}")]
    Runs {
        /// The program.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The clock could not be read.
    #[error("read the monotonic clock")]
    Clock(#[source] io::Error),
}

impl Datapath {
    /// Loads the programs, for as long as the process lives.
    ///
    /// # Errors
    ///
    /// The object is none, or the kernel refuses it; the error holds the end of the verifier's log.
    pub fn load(config: &DatapathConfig) -> Result<Self, LoadError> {
        let (ebpf, second) = load::load_twice(config, None)?;
        Ok(Self::new(config, ebpf, second, None))
    }

    /// Loads the programs, goes on with what a daemon before has left under `pins`, and leaves it to the next.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; or the pins cannot be read or replaced.
    pub fn take_over(config: &DatapathConfig, pins: Pins) -> Result<Self, LoadError> {
        let takeover::Taken { ebpf, second, kept, base, takeover } = takeover::take_over(config, &pins)?;
        let mut datapath = Self::new(config, ebpf, second, Some(pins));
        datapath.kept = Mutex::new(kept);
        datapath.base = Arc::new(base);
        datapath.takeover = takeover;
        Ok(datapath)
    }

    fn new(config: &DatapathConfig, ebpf: Ebpf, second: Instances, pins: Option<Pins>) -> Self {
        Self {
            ebpf: Mutex::new(ebpf),
            second,
            links: Mutex::default(),
            kept: Mutex::default(),
            base: Arc::default(),
            pins,
            takeover: Takeover::default(),
            config: *config,
            flows: AtomicU32::new(0),
            edges: AtomicU32::new(0),
            _statistics: config.statistics.then(runs::Statistics::start).flatten(),
        }
    }

    /// Where links and maps outlive the process, if they do.
    pub fn pins(&self) -> Option<&Path> {
        self.pins.as_ref().map(Pins::folder)
    }

    /// What a daemon before had left.
    pub const fn takeover(&self) -> Takeover {
        self.takeover
    }

    /// Attaches to both directions of an interface of the calling thread's network namespace. `name` is what it
    /// was last called, for errors: what counts is the index.
    ///
    /// # Errors
    ///
    /// [`AttachError::NoDevice`] if the interface is gone.
    pub fn attach(&self, ifindex: u32, name: &str) -> Result<Attached, AttachError> {
        let links = attach::attach(
            &self.ebpf(),
            self.pins.as_ref(),
            &mut lock(&self.kept),
            self.config.hooks,
            ifindex,
            name,
        )?;
        let attached = links.attached();
        let _replaced = lock(&self.links).insert(ifindex, links);
        Ok(attached)
    }

    /// Where the programs sit on the hooks of interfaces. One system call a hook, or with filters of clsact a list
    /// of them.
    pub fn places(&self, interfaces: impl IntoIterator<Item = u32>) -> Vec<(u32, Place)> {
        let (links, mut look) = (lock(&self.links), clsact::Look::default());
        let mut place =
            |ifindex| links.get(&ifindex).map_or(Place::Unknown, |one| one.place(ifindex, &mut look));
        interfaces.into_iter().map(|ifindex| (ifindex, place(ifindex))).collect()
    }

    /// Puts the programs first again, and says where they sit then. They come before they leave their old place, so
    /// that no packet meets neither; where a hook has no room for one more, they leave first.
    ///
    /// # Errors
    ///
    /// They could not be attached again, and are not there any more.
    pub fn restore(&self, ifindex: u32, name: &str) -> Result<Place, AttachError> {
        let Some(links) = lock(&self.links).remove(&ifindex) else { return Ok(Place::Unknown) };
        let pins = self.pins.as_ref();
        let links = attach::restore(&self.ebpf(), &self.second, pins, ifindex, name, links)?;
        let place = links.place(ifindex, &mut clsact::Look::default());
        let _none = lock(&self.links).insert(ifindex, links);
        Ok(place)
    }

    /// Lets go of an interface, which may be gone.
    pub fn detach(&self, ifindex: u32) {
        if let Some(links) = lock(&self.links).remove(&ifindex) {
            links.detach(self.pins.as_ref());
        }
    }

    /// Lets go of what a daemon before observed and nobody asked for since; answers on how many interfaces.
    pub fn release(&self) -> usize {
        let kept: Vec<_> = lock(&self.kept).drain().collect();
        for ((ifindex, direction), link) in &kept {
            if let Some(pins) = &self.pins {
                attach::unpin(&pins.link(*ifindex, direction));
            }
            tracing::debug!(ifindex, direction, ?link, "not observed any more");
        }
        let links = lock(&self.links);
        let in_use = |ifindex| matches!(links.get(&ifindex), Some(Links::Clsact(_)));
        let filters = remove::filters(self.pins.as_ref(), in_use).unwrap_or_else(|error| {
            tracing::warn!(%error, "filters of a daemon before cannot be removed");
            Cleared::default()
        });
        kept.iter().map(|((ifindex, _), _)| ifindex).collect::<HashSet<_>>().len() + filters.interfaces
    }

    /// The events, once.
    pub fn take_events(&self) -> Option<Events> {
        let mut ebpf = self.ebpf();
        let ring = ebpf.take_map(names::EVENTS)?;
        Events::open(ring, Arc::clone(&self.base), &mut ebpf).ok()
    }

    /// All edges with their totals. Those that have been silent for long are forgotten in the kernel when the
    /// map fills, so that new ones find room; they are in this answer for the last time.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read the map.
    pub fn edges(&self) -> Result<Vec<(EdgeKey, EdgeValue)>, ReadError> {
        let mut ebpf = self.ebpf();
        let edges = maps::edges(&ebpf)?;
        let count = u32::try_from(edges.len()).unwrap_or(u32::MAX);
        self.edges.store(count, Ordering::Relaxed);
        if count > self.config.max_edges / 2 {
            maps::forget_edges(&mut ebpf, &edges, self.config.idle)?;
        }
        Ok(takeover::with_base(edges, &self.base))
    }

    /// The kernel's counters, summed over all CPUs, in the order of [`Counter::ALL`].
    ///
    /// # Errors
    ///
    /// The kernel refuses to read the map.
    pub fn counters(&self) -> Result<[u64; Counter::COUNT as usize], ReadError> {
        maps::counters(&self.ebpf())
    }

    /// How often each program has run and how long that took; nothing where the kernel keeps no statistics.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn runs(&self) -> Result<Vec<(&'static str, ProgramRuns)>, ReadError> {
        runs::read(&self.ebpf(), &self.second)
    }

    /// Removes idle flows; answers how many. To be called every few seconds.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read the map or to run the program.
    pub fn expire(&self) -> Result<u64, ReadError> {
        let (removed, left) = maps::expire(&mut self.ebpf(), self.config.idle)?;
        self.flows.store(left, Ordering::Relaxed);
        Ok(removed)
    }

    /// How full the maps were when they were last read by [`Self::edges`] and [`Self::expire`].
    pub fn fill(&self) -> MapFill {
        MapFill {
            flows: self.flows.load(Ordering::Relaxed),
            max_flows: self.config.max_flows,
            edges: self.edges.load(Ordering::Relaxed),
            max_edges: self.config.max_edges,
        }
    }

    fn ebpf(&self) -> MutexGuard<'_, Ebpf> {
        lock(&self.ebpf)
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        // Where there are pins they hold the links, and filters stay by themselves.
        if self.pins.is_none() {
            for (_, links) in lock(&self.links).drain() {
                links.detach(None);
            }
        }
    }
}

/// Locks whatever a panic may have left: maps and links are valid after any step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
