//! Owns the memory of a list: which objects it showed, so that the others can be forgotten at its end.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
};

use crate::cluster::objects::ObjectRef;

/// Objects that a list has shown. A hash stands for each: among a million, two of which one has gone would
/// have to share 64 bits for the other to be kept too long.
#[derive(Debug, Default)]
pub struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    /// Notes an object.
    pub fn note(&mut self, object: &ObjectRef) {
        self.hashes.insert(self.hasher.hash_one(object));
    }

    /// Whether an object was noted.
    #[must_use]
    pub fn contains(&self, object: &ObjectRef) -> bool {
        self.hashes.contains(&self.hasher.hash_one(object))
    }
}
