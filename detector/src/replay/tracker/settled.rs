//! Owns the memory of connections of which nothing more is to be learned.

use std::collections::HashSet;

use detector_ebpf::flow::FlowKey;

/// A set of two generations: what was not asked for in a whole generation is forgotten.
#[derive(Debug)]
pub(super) struct Settled {
    capacity: usize,
    young: HashSet<FlowKey>,
    old: HashSet<FlowKey>,
}

impl Settled {
    /// A set that holds twice `capacity` at the most.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, young: HashSet::new(), old: HashSet::new() }
    }

    pub(super) fn insert(&mut self, key: FlowKey) {
        if self.young.len() >= self.capacity {
            self.rotate();
        }
        self.young.insert(key);
    }

    pub(super) fn remove(&mut self, key: &FlowKey) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn contains(&mut self, key: &FlowKey) -> bool {
        if self.young.contains(key) {
            return true;
        }
        let Some(key) = self.old.take(key) else { return false };
        self.insert(key);
        true
    }

    /// Begins a generation.
    pub(super) fn rotate(&mut self) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
    }
}

#[cfg(test)]
mod tests {
    use detector_ebpf::flow::FlowKey;

    use super::Settled;

    fn key(port: u16) -> FlowKey {
        FlowKey { high_port: port, ..FlowKey::default() }
    }

    #[test]
    fn what_is_asked_for_outlives_any_number_of_others() {
        let mut settled = Settled::new(4);
        settled.insert(key(0));
        for port in 1..100 {
            settled.insert(key(port));
            assert!(settled.contains(&key(0)));
            assert!(settled.young.len() <= 4 && settled.old.len() <= 4);
        }
        assert!(!settled.contains(&key(1)));
        settled.remove(&key(0));
        assert!(!settled.contains(&key(0)));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_in_two_generations() {
        let mut settled = Settled::new(4);
        settled.insert(key(1));
        settled.rotate();
        settled.rotate();
        assert!(!settled.contains(&key(1)));
    }
}
