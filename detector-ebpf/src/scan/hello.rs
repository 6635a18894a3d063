//! Owns the reading of a TLS hello behind its first eleven bytes: server name, ALPN and versions.
//!
//! A hello is a list of lengths, so most of it is passed over unread: of a post-quantum hello of 1.8 KB some
//! 150 bytes are read. It may be split over segments at any byte, and over records (RFC 8446 §5.1) behind its first
//! six bytes, as those with small fragments make them. Where what follows is no record of a handshake, it stays TLS and
//! its names are lost.

use super::{Head, Phase, Work, token};
use crate::{
    automaton::{PROTOCOL_NAME, SERVER_NAME, Step},
    counter::Counter,
    evidence::Evidence,
    flow::Side,
    packet::{BLOCK, Packet},
    tls::{ALPN_MAX, SNI_MAX},
};

/// What stands next in the hello (RFC 8446 §4.1.2, §4.1.3, §4.2). Kept in [`Side::depth`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    /// Length of the session id, behind the random.
    Session = 0,
    /// Length of the cipher suites; a server's one suite.
    Ciphers = 1,
    /// Length of the compression methods; a server's one method.
    Compression = 2,
    /// Length of all extensions.
    Extensions = 3,
    /// Type of an extension.
    Kind = 4,
    /// Length of an extension.
    Length = 5,
    /// Length of the list of server names, and the type of the first (RFC 6066 §3).
    NameList = 6,
    /// Length of a server name.
    NameLength = 7,
    /// A server name.
    Name = 8,
    /// Length of the list of protocols (RFC 7301 §3.1).
    ProtocolList = 9,
    /// Length of a protocol.
    ProtocolLength = 10,
    /// A protocol.
    Protocol = 11,
    /// Length of a client's list of versions (RFC 8446 §4.2.1).
    VersionList = 12,
    /// A version.
    Version = 13,
    /// The last byte of the hello, where it is of an extension that is passed over.
    Last = 14,
}

const RANDOM: u32 = 32;
/// Bytes of the first record that were read: type and length of the handshake, and the legacy version.
const BEGUN: u16 = 6;
/// Type of the records that a hello is in (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;
/// Bytes of a record's header.
const RECORD_HEADER: u8 = 5;
const SERVER_NAME_TYPE: u16 = 0;
const ALPN_TYPE: u16 = 16;
const SUPPORTED_VERSIONS_TYPE: u16 = 43;
const TLS13: u16 = 0x0304;

/// In [`Side::saved`] while a name is read: a token has said whose it is.
const KNOWN_NAME: u16 = 1;

/// Turns of one step: bytes of lengths, of names, and stretches that are passed over.
const TURNS: u32 = 64;

/// FNV-1a, 32 bits: the names are few, and both halves compute it.
const HASH_START: u32 = 0x811c_9dc5;
const HASH_PRIME: u32 = 0x0100_0193;

/// Begins behind the eleventh byte.
#[inline(always)]
pub(super) const fn begin(work: &mut Work) {
    let side = &mut work.side;
    // Its low bytes are those of the record's length.
    let record = side.left as u16;
    if record < BEGUN {
        // What was taken for the version is of the next record's header.
        side.evidence = 0;
        side.phase = Phase::Tls as u8;
        return;
    }
    side.phase = Phase::Hello as u8;
    side.window = record - BEGUN;
    side.record = 0;
    side.left = RANDOM;
    side.hash = 0;
    side.incoming = 0;
    side.stream = 0;
    expect(side, Field::Session);
    work.record.hello.sni_len = 0;
    work.record.hello.alpn_len = 0;
}

/// The next number is of this field. `content` gathers it and `saved` counts its bytes.
#[inline(always)]
const fn expect(side: &mut Side, field: Field) {
    side.depth = field as u8;
    side.content = 0;
    side.saved = 0;
}

/// Takes one step; answers how many bytes are done with.
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
#[inline(always)]
pub(super) fn step<P: Packet>(packet: &P, work: &mut Work, at: u32, len: u32) -> u32 {
    // What is passed over is not loaded.
    let mut taken = 0;
    if !is_name(&work.side) && !is_header(&work.side) {
        taken = work.side.left;
        if taken > u32::from(work.side.window) {
            taken = u32::from(work.side.window);
        }
        if taken > len {
            taken = len;
        }
        pass(&mut work.side, taken);
        if taken == len {
            return len;
        }
    }
    let mut size = len - taken;
    if size > BLOCK as u32 {
        size = BLOCK as u32;
    }
    if size == 0 || !packet.block(at + taken, size, &mut work.block) {
        work.lose(Counter::PayloadUnreadable);
        return len;
    }
    work.position = 0;
    for _ in 0..TURNS {
        // All that a turn changes is kept in memory that the compiler knows nothing of, so that every turn is
        // the same to the verifier, whatever the one before has done.
        let work = core::hint::black_box(&mut *work);
        let position = work.position;
        if position >= size || !work.side.is(Phase::Hello) {
            break;
        }
        let header = is_header(&work.side);
        if work.side.left > 0 && !is_name(&work.side) && !header {
            // The rest is passed over in the next step.
            break;
        }
        let byte = work.block[core::hint::black_box(position) as usize & (BLOCK - 1)];
        work.position = position + 1;
        work.scanned = work.scanned.wrapping_add(1);
        if header {
            record_header(&mut work.side, byte);
            continue;
        }
        work.side.window -= 1;
        if is_name(&work.side) {
            name(work, byte)
        } else {
            number(work, byte)
        }
        let work = core::hint::black_box(&mut *work);
        let left = work.side.left;
        let room = size.saturating_sub(work.position);
        if left > 0 && left <= room && left <= u32::from(work.side.window) && !is_name(&work.side) {
            work.position += left;
            pass(&mut work.side, left);
        }
    }
    let done = taken + work.position;
    if !work.side.is(Phase::Hello) || done > len { len } else { done }
}

/// Passes over bytes of a field, which are in the record.
#[inline(always)]
const fn pass(side: &mut Side, bytes: u32) {
    side.left -= bytes;
    side.window -= bytes as u16;
}

/// Whether the record is over, so that the next byte is of another one's header.
#[inline(always)]
const fn is_header(side: &Side) -> bool {
    side.window == 0 || side.record != 0
}

/// Takes a byte of a record's header.
#[inline(always)]
const fn record_header(side: &mut Side, byte: u8) {
    let at = side.record;
    side.record = at + 1;
    if at == 0 && byte != HANDSHAKE {
        side.lose();
    } else if at == RECORD_HEADER - 2 {
        side.window = (byte as u16) << 8;
    } else if at == RECORD_HEADER - 1 {
        side.window |= byte as u16;
        side.record = 0;
        if side.window == 0 {
            side.lose();
        }
    }
}

#[inline(always)]
const fn is_name(side: &Side) -> bool {
    side.depth == Field::Name as u8 || side.depth == Field::Protocol as u8
}

/// Takes a byte of a number; with its last the field's meaning is applied.
#[inline(always)]
fn number(work: &mut Work, byte: u8) {
    let side = &mut work.side;
    side.content = side.content << 8 | u16::from(byte);
    side.saved += 1;
    let client = side.head & Head::CLIENT != 0;
    let field = side.depth;
    let width = match field {
        f if f == Field::Session as u8 => 1,
        f if f == Field::Compression as u8 => 1,
        f if f == Field::ProtocolLength as u8 => 1,
        f if f == Field::VersionList as u8 => 1,
        f if f == Field::Last as u8 => 1,
        // Two bytes of length and one of type, of which the type comes last and is not looked at.
        f if f == Field::NameList as u8 => 3,
        _ => 2,
    };
    if side.saved < width {
        return;
    }
    let value = side.content;
    apply(work, field, value, client);
}

#[inline(always)]
fn apply(work: &mut Work, field: u8, value: u16, client: bool) {
    let side = &mut work.side;
    if field >= Field::Kind as u8 {
        return extension(work, field, value, client);
    }
    if field == Field::Session as u8 {
        side.left = u32::from(value);
        expect(side, Field::Ciphers);
    } else if field == Field::Ciphers as u8 {
        // A server names one suite, which is no length.
        side.left = if client { u32::from(value) } else { 0 };
        expect(side, Field::Compression);
    } else if field == Field::Compression as u8 {
        side.left = if client { u32::from(value) } else { 0 };
        expect(side, Field::Extensions);
    } else {
        side.incoming = value;
        next_extension(work);
    }
}

#[inline(always)]
fn extension(work: &mut Work, field: u8, value: u16, client: bool) {
    let side = &mut work.side;
    if field == Field::Kind as u8 {
        side.stream = value;
        expect(side, Field::Length);
    } else if field == Field::Length as u8 {
        let kind = side.stream;
        side.incoming = side.incoming.saturating_sub(4).saturating_sub(value);
        side.stream = value;
        if kind == SERVER_NAME_TYPE && client && value > 5 {
            expect(side, Field::NameList);
        } else if kind == ALPN_TYPE && client && value > 2 {
            expect(side, Field::ProtocolList);
        } else if kind == SUPPORTED_VERSIONS_TYPE && value >= 2 {
            expect(side, if client { Field::VersionList } else { Field::Version });
        } else {
            side.left = u32::from(value);
            next_extension(work);
        }
    } else if field == Field::NameList as u8 {
        side.stream = side.stream.saturating_sub(3);
        expect(side, Field::NameLength);
    } else if field == Field::NameLength as u8 {
        side.stream = side.stream.saturating_sub(2);
        let length = value.min(side.stream);
        side.evidence |= Evidence::SNI.0;
        side.hash = HASH_START;
        begin_name(work, Field::Name, length, SERVER_NAME);
    } else if field == Field::ProtocolList as u8 {
        side.stream = side.stream.saturating_sub(2);
        expect(side, Field::ProtocolLength);
    } else if field == Field::ProtocolLength as u8 {
        side.stream = side.stream.saturating_sub(1);
        let length = value.min(side.stream);
        keep_protocol(work, value as u8);
        begin_name(work, Field::Protocol, length, PROTOCOL_NAME);
    } else if field == Field::Last as u8 {
        next_extension(work);
    } else if field == Field::VersionList as u8 {
        side.stream = side.stream.saturating_sub(1);
        expect(side, Field::Version);
    } else {
        side.stream = side.stream.saturating_sub(2);
        if value == TLS13 {
            let evidence = if client { Evidence::OFFERS_TLS13 } else { Evidence::CHOSE_TLS13 };
            side.evidence |= evidence.0;
        }
        if side.stream >= 2 {
            expect(side, Field::Version);
        } else {
            side.left = u32::from(side.stream);
            next_extension(work);
        }
    }
}

/// Begins a name of `length` bytes, or ends its extension if there are none.
#[inline(always)]
fn begin_name(work: &mut Work, field: Field, length: u16, root: u16) {
    let side = &mut work.side;
    expect(side, field);
    side.state = root;
    side.left = u32::from(length);
    if length == 0 {
        end_name(work);
    }
}

/// Takes a byte of a name.
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
#[inline(always)]
fn name(work: &mut Work, byte: u8) {
    let step = Step::at(work.side.state).next(byte);
    work.side.state = step.state();
    if step.has_token() {
        work.side.saved = KNOWN_NAME;
        work.side.evidence |= token::meaning(crate::automaton::token(step.state())).evidence;
    }
    work.side.left = work.side.left.saturating_sub(1);
    work.side.stream = work.side.stream.saturating_sub(1);
    if work.side.depth == Field::Name as u8 {
        work.side.hash = (work.side.hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(HASH_PRIME);
        let index = usize::from(work.record.hello.sni_len) & SNI_MAX;
        work.record.hello.sni[index] = byte;
        if usize::from(work.record.hello.sni_len) < SNI_MAX {
            work.record.hello.sni_len += 1;
        }
    } else {
        keep_protocol(work, byte);
    }
    if work.side.left == 0 {
        end_name(work);
    }
}

#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
#[inline(always)]
fn keep_protocol(work: &mut Work, byte: u8) {
    let len = usize::from(work.record.hello.alpn_len);
    if len < ALPN_MAX {
        // The compiler would leave the mask out, and the verifier wants it.
        work.record.hello.alpn[core::hint::black_box(len) & (ALPN_MAX - 1)] = byte;
        work.record.hello.alpn_len += 1;
    }
}

/// Ends a name: the next protocol follows, or what is left of the extension is passed over.
#[inline(always)]
fn end_name(work: &mut Work) {
    let side = &mut work.side;
    if side.depth == Field::Protocol as u8 && side.saved != KNOWN_NAME {
        side.evidence |= Evidence::ALPN_OTHER.0;
    }
    if side.depth == Field::Protocol as u8 && side.stream > 1 {
        expect(side, Field::ProtocolLength);
        return;
    }
    side.left = u32::from(side.stream);
    next_extension(work);
}

/// The next extension follows, or the hello is over.
#[inline(always)]
fn next_extension(work: &mut Work) {
    let side = &mut work.side;
    if side.incoming >= 4 {
        expect(side, Field::Kind);
        return;
    }
    // The hello goes on to its last byte, so that no part of it is taken for what is said after it.
    if side.left > 0 {
        side.left -= 1;
        expect(side, Field::Last);
        return;
    }
    side.phase = Phase::Tls as u8;
    let chosen = Evidence::CHOSE_TLS13.or(Evidence::CHOSE_WEAK);
    if side.head & Head::CLIENT != 0 {
        work.hello_is_whole = 1;
    } else if side.evidence & chosen.0 == 0 {
        // Without the extension, the legacy version is the one that counts.
        side.evidence |= Evidence::CHOSE_TLS12.0;
    }
}

const _: () = assert!((SNI_MAX + 1).is_power_of_two() && ALPN_MAX.is_power_of_two());
