//! Owns the automaton: one table, made at compile time, that recognises every start and every token.
//!
//! The automaton takes one byte a step and its whole memory is one state, so a token that is split over
//! segments at any byte is found as if it were whole. `grammar` says what it recognises, `builder` how
//! the table is made of it. ASCII case is folded by the class table: header names are written in any case
//! (RFC 9110 §5.1), and no protocol here tells two words apart by case alone.

mod builder;
mod grammar;

use builder::Table;
pub use grammar::{CHUNK_SIZE, COMMAND, CONTENT, DEAD, LINE, PROTOCOL_NAME, SERVER_NAME, SKIP, START, Token};

/// States that the table has room for: a power of two, so that a masked state is always an index.
pub const STATES: usize = 2048;
/// Classes of bytes that the table tells apart: a power of two.
pub const CLASSES: usize = 128;
/// Transitions of the table. A class is read as any byte, so the last row is followed by room that no class
/// reaches.
const TRANSITIONS: usize = (STATES - 1) * CLASSES + 256;

/// A transition holds the next state from this bit on, so that it is where the state's row begins.
const STATE_SHIFT: u32 = 9;
const ROW_MASK: u32 = (STATES as u32 - 1) << STATE_SHIFT;
/// Bytes of a transition; a row of them is as long as a state's step above.
const WIDTH: usize = size_of::<u32>();
const _: () = assert!(CLASSES * WIDTH == 1 << STATE_SHIFT);
/// Bit of a transition: the next state has a token.
const TOKEN: u32 = 1;
/// Where a transition holds what a bracket of JSON adds to the depth: a signed number of two bits.
const BRACKET_SHIFT: u32 = 30;
const OPENS: u32 = 0b01 << BRACKET_SHIFT;
const CLOSES: u32 = 0b11 << BRACKET_SHIFT;

static TABLE: Table = grammar::TABLE;

/// All bytes of the table, for its fingerprint: states that are remembered mean nothing under another one.
#[cfg(any(test, feature = "host"))]
pub(crate) fn table_bytes() -> impl Iterator<Item = u8> {
    let next = TABLE.next.iter().flat_map(|next| next.to_ne_bytes());
    TABLE.class.iter().copied().chain(next).chain(TABLE.token.iter().copied())
}

/// Where the automaton stands, and what the last byte did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(u32);

impl Step {
    /// Stands at a state.
    #[inline(always)]
    #[must_use]
    pub const fn at(state: u16) -> Self {
        Self((state as u32) << STATE_SHIFT)
    }

    /// Takes one byte.
    #[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
    #[inline(always)]
    #[must_use]
    pub fn next(self, byte: u8) -> Self {
        // The class is known before the state is, so it is added to the table's address first. It is not
        // masked: where two numbers have no bit in common the compiler makes their sum an OR, of which the
        // verifiers of Linux 5.10 and 6.1 keep no bound.
        let class = TABLE.class[byte as usize] as usize * WIDTH;
        let row = (self.0 & ROW_MASK) as usize;
        Self(TABLE.next[(class + row) / WIDTH])
    }

    /// The state.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u16 {
        (self.0 >> STATE_SHIFT) as u16 & (STATES as u16 - 1)
    }

    /// What the byte adds to the depth of JSON's brackets: 1, 0 or -1.
    #[inline(always)]
    #[must_use]
    pub const fn bracket(self) -> i32 {
        self.0.cast_signed() >> BRACKET_SHIFT
    }

    /// Whether the byte ended a token.
    #[inline(always)]
    #[must_use]
    pub const fn has_token(self) -> bool {
        self.0 & TOKEN != 0
    }
}

/// The token that ends where `state` was entered.
#[inline(always)]
#[must_use]
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
pub fn token(state: u16) -> u8 {
    TABLE.token[state as usize & (STATES - 1)]
}

#[cfg(test)]
mod tests;
