//! Owns the event: what travels through the ring buffer when an edge is new or its evidence grows.
//!
//! An event repeats the edge and its totals, so that user space needs no look-up; one that is lost to a full
//! ring costs time only, for the edge map holds the same figures.

use crate::{
    edge::{EdgeKey, EdgeValue},
    tls::Hello,
};

/// An edge that is new, or that has new evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// [`Event::VERSION`].
    pub version: u8,
    /// [`Event::KIND`].
    pub kind: u8,
    /// Zero.
    pub _pad: [u8; 4],
    /// The client's port of the connection that caused the event, in host order.
    pub client_port: u16,
    /// The edge.
    pub key: EdgeKey,
    /// Its totals at the time of the event.
    pub value: EdgeValue,
}

const _: () = assert!(size_of::<Event>() == 120);

/// Bytes from the ring buffer that are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The length is not that of an event.
    Length(usize),
    /// The event has another version.
    Version(u8),
    /// The record is of no kind that this build knows.
    Kind(u8),
}

/// A record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "taken from the ring one by one, and seldom a hello")]
pub enum Record {
    /// An edge that is new, or that has new evidence.
    Event(Event),
    /// The hello that made an edge; it comes before the edge's own event.
    Hello(HelloEvent),
}

/// The hello that made an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HelloEvent {
    /// [`Event::VERSION`].
    pub version: u8,
    /// [`HelloEvent::KIND`].
    pub kind: u8,
    /// Zero.
    pub _pad: [u8; 6],
    /// The edge.
    pub key: EdgeKey,
    /// The hello's names.
    pub hello: Hello,
}

const _: () = assert!(size_of::<HelloEvent>() == 384);

impl Record {
    /// Reads one record of the ring buffer.
    ///
    /// # Errors
    ///
    /// The record has another length, version or kind than this build writes.
    pub fn parse(record: &[u8]) -> Result<Self, DecodeError> {
        match record.get(1) {
            Some(&HelloEvent::KIND) => HelloEvent::parse(record).map(Self::Hello),
            Some(&Event::KIND) | None => Event::parse(record).map(Self::Event),
            Some(kind) => Err(DecodeError::Kind(*kind)),
        }
    }
}

impl Default for HelloEvent {
    fn default() -> Self {
        Self::new()
    }
}

impl HelloEvent {
    /// A hello of no edge yet, which says nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: Event::VERSION,
            kind: Self::KIND,
            _pad: [0; 6],
            key: EdgeKey::new(),
            hello: Hello::new(),
        }
    }

    /// The kind of a hello.
    pub const KIND: u8 = 2;

    /// The size in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Reads a hello from the bytes of one record.
    ///
    /// # Errors
    ///
    /// The record has another length or another version than this build writes.
    pub fn parse(record: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, version, kind) = Reader::open(record, Self::SIZE)?;
        Ok(Self {
            version,
            kind,
            _pad: reader.take(),
            key: reader.key(),
            hello: Hello {
                sni: reader.take(),
                alpn: reader.take(),
                sni_len: u16::from_ne_bytes(reader.take()),
                alpn_len: u16::from_ne_bytes(reader.take()),
                _pad: reader.take(),
            },
        })
    }
}

impl Event {
    /// The layout's version, raised with every change of it.
    pub const VERSION: u8 = 1;

    /// The kind of an event.
    pub const KIND: u8 = 1;

    /// The event's size in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Reads an event from the bytes of one ring buffer record.
    ///
    /// # Errors
    ///
    /// The record has another length or another version than this build writes.
    pub fn parse(record: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, version, kind) = Reader::open(record, Self::SIZE)?;
        let _pad = reader.take();
        Ok(Self {
            version,
            kind,
            _pad,
            client_port: u16::from_ne_bytes(reader.take()),
            key: reader.key(),
            value: EdgeValue {
                entered: u64::from_ne_bytes(reader.take()),
                left: u64::from_ne_bytes(reader.take()),
                answered: u64::from_ne_bytes(reader.take()),
                refused: u64::from_ne_bytes(reader.take()),
                evidence: u64::from_ne_bytes(reader.take()),
                methods: u64::from_ne_bytes(reader.take()),
                first_ns: u64::from_ne_bytes(reader.take()),
                last_ns: u64::from_ne_bytes(reader.take()),
            },
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins a record of `size` bytes: what is behind its version and kind, and these two.
    fn open(record: &'a [u8], size: usize) -> Result<(Self, u8, u8), DecodeError> {
        if record.len() != size {
            return Err(DecodeError::Length(record.len()));
        }
        let mut reader = Self { bytes: record, at: 0 };
        let [version, kind] = reader.take();
        if version != Event::VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok((reader, version, kind))
    }

    fn key(&mut self) -> EdgeKey {
        EdgeKey {
            client: self.take(),
            server: self.take(),
            ifindex: u32::from_ne_bytes(self.take()),
            sni_hash: u32::from_ne_bytes(self.take()),
            server_port: u16::from_ne_bytes(self.take()),
            verdict: u8::from_ne_bytes(self.take()),
            protocol: u8::from_ne_bytes(self.take()),
            flags: u8::from_ne_bytes(self.take()),
            alpn: u8::from_ne_bytes(self.take()),
            tls_version: u8::from_ne_bytes(self.take()),
            _pad: u8::from_ne_bytes(self.take()),
        }
    }

    /// The next `N` bytes; zeros past the end, which the sizes asserted above rule out.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        if let Some(from) = self.bytes.get(self.at..self.at + N) {
            out.copy_from_slice(from);
        }
        self.at += N;
        out
    }
}

// SAFETY: repr(C), no padding (asserted by the size above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Event {}

// SAFETY: repr(C), no padding (asserted by the size above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for HelloEvent {}

#[cfg(test)]
mod tests {
    use super::{DecodeError, Event, HelloEvent, Record};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_of_any_other_length_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assume!(bytes.len() != Event::SIZE);
            prop_assert_eq!(Event::parse(&bytes), Err(DecodeError::Length(bytes.len())));
        }

        #[test]
        fn fields_are_read_from_where_the_layout_puts_them(bytes in prop::collection::vec(any::<u8>(), Event::SIZE)) {
            let mut bytes = bytes;
            bytes[0] = Event::VERSION;
            let event = Event::parse(&bytes).unwrap();
            let port = core::mem::offset_of!(Event, client_port);
            prop_assert_eq!(event.client_port.to_ne_bytes(), [bytes[port], bytes[port + 1]]);
            let key = core::mem::offset_of!(Event, key);
            prop_assert_eq!(&event.key.client[..], &bytes[key..key + 16]);
            prop_assert_eq!(event.value.last_ns.to_ne_bytes(), <[u8; 8]>::try_from(&bytes[112..120]).unwrap());
        }
    }

    #[test]
    fn a_record_is_what_its_kind_says() {
        let mut bytes = [0; HelloEvent::SIZE];
        bytes[..2].copy_from_slice(&[Event::VERSION, HelloEvent::KIND]);
        let len =
            core::mem::offset_of!(HelloEvent, hello) + core::mem::offset_of!(crate::tls::Hello, sni_len);
        bytes[len..len + 2].copy_from_slice(&3_u16.to_ne_bytes());
        let sni = core::mem::offset_of!(HelloEvent, hello);
        bytes[sni..sni + 3].copy_from_slice(b"a.b");
        let Ok(Record::Hello(event)) = Record::parse(&bytes) else { panic!("no hello") };
        assert_eq!(event.hello.server_name(), b"a.b");
        assert_eq!(
            Record::parse(&bytes[..HelloEvent::SIZE - 1]),
            Err(DecodeError::Length(HelloEvent::SIZE - 1))
        );
        bytes[1] = 9;
        assert_eq!(Record::parse(&bytes), Err(DecodeError::Kind(9)));
        assert_eq!(Record::parse(&[]), Err(DecodeError::Length(0)));
    }

    #[test]
    fn another_version_is_refused() {
        let bytes = [Event::VERSION + 1; Event::SIZE];
        assert_eq!(Event::parse(&bytes), Err(DecodeError::Version(Event::VERSION + 1)));
    }
}
