//! Owns the way of objects from a watch to where they are held.

use super::{
    super::{
        objects::{Kind, Object},
        store::{Seen, SharedStore},
        wire::{self, DecodeError},
    },
    resource::Resource,
};

/// Takes what a watch brings, as JSON text. `begin` and `end` enclose a whole list: what was not applied
/// between them is gone. Nothing need be seen before `flush`.
pub trait Sink: Send {
    /// A whole list begins.
    fn begin(&mut self);

    /// An object is there, or has changed.
    ///
    /// # Errors
    ///
    /// It cannot be read; what was known of it stays.
    fn apply(&mut self, resource: &Resource, api_version: &str, object: &str) -> Result<(), DecodeError>;

    /// An object is gone.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn delete(&mut self, resource: &Resource, api_version: &str, object: &str) -> Result<(), DecodeError>;

    /// Nothing more is at hand.
    fn flush(&mut self);

    /// The list is whole.
    fn end(&mut self);
}

/// Puts objects of one kind into the store.
#[derive(Debug)]
pub struct StoreSink {
    store: SharedStore,
    kind: Kind,
    seen: Option<Seen>,
    batch: Vec<Object>,
}

impl StoreSink {
    /// Objects for which the store is locked at once.
    const BATCH: usize = 64;

    /// A sink for objects of `kind`.
    #[must_use]
    pub fn new(store: SharedStore, kind: Kind) -> Self {
        Self { store, kind, seen: None, batch: Vec::new() }
    }
}

impl Sink for StoreSink {
    fn begin(&mut self) {
        self.seen = Some(Seen::default());
    }

    fn apply(&mut self, resource: &Resource, api_version: &str, object: &str) -> Result<(), DecodeError> {
        let Some(object) = decode(resource, api_version, object)? else { return Ok(()) };
        if let Some(seen) = &mut self.seen {
            seen.note(&object.to_ref());
        }
        self.batch.push(object);
        if self.batch.len() >= Self::BATCH {
            self.flush();
        }
        Ok(())
    }

    fn delete(&mut self, resource: &Resource, api_version: &str, object: &str) -> Result<(), DecodeError> {
        self.flush();
        if let Some(object) = decode(resource, api_version, object)? {
            self.store.write().delete(&object.to_ref());
        }
        Ok(())
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut store = self.store.write();
        for object in self.batch.drain(..) {
            store.apply(object);
        }
    }

    fn end(&mut self) {
        self.flush();
        if let Some(seen) = self.seen.take() {
            self.store.write().retain(self.kind, &seen);
        }
    }
}

fn decode(resource: &Resource, api_version: &str, text: &str) -> Result<Option<Object>, DecodeError> {
    wire::decode(api_version, resource.kind, &mut serde_json::Deserializer::from_str(text))
}
