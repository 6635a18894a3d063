//! Owns the automaton: one table, made at compile time, that recognises every start and every token.
//!
//! The automaton takes one byte a step and its whole memory is one state, so a token that is split over
//! segments at any byte is found as if it were whole. [`grammar`] says what it recognises, [`builder`] how
//! the table is made of it. ASCII case is folded by the class table: header names are written in any case
//! (RFC 9110 §5.1), and no protocol here tells two words apart by case alone.

mod builder;
mod grammar;

use builder::Table;
pub use grammar::{CHUNK_SIZE, CONTENT, DEAD, LINE, SKIP, START, Token};

/// States that the table has room for: a power of two, so that a masked state is always an index.
pub const STATES: usize = 2048;
/// Classes of bytes that the table tells apart: a power of two.
pub const CLASSES: usize = 64;

/// Part of a transition that is the next state.
const STATE_MASK: u16 = STATES as u16 - 1;
/// Bit of a transition: a bracket of JSON opens.
const OPEN_SHIFT: u32 = 11;
/// Bit of a transition: a bracket of JSON closes.
const CLOSE_SHIFT: u32 = 12;
/// Bit of a transition: the next state has a token.
const TOKEN_SHIFT: u32 = 13;

static TABLE: Table = grammar::TABLE;

/// What one byte did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(u16);

impl Step {
    /// The state after the byte.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u16 {
        self.0 & STATE_MASK
    }

    /// 1 if a bracket of JSON opened.
    #[inline(always)]
    #[must_use]
    pub const fn opened(self) -> u32 {
        (self.0 >> OPEN_SHIFT) as u32 & 1
    }

    /// 1 if a bracket of JSON closed.
    #[inline(always)]
    #[must_use]
    pub const fn closed(self) -> u32 {
        (self.0 >> CLOSE_SHIFT) as u32 & 1
    }

    /// 1 if the byte ended a token.
    #[inline(always)]
    #[must_use]
    pub const fn hit(self) -> u32 {
        (self.0 >> TOKEN_SHIFT) as u32 & 1
    }
}

/// Takes one byte in a state.
#[inline(always)]
#[must_use]
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
pub fn step(state: u16, byte: u8) -> Step {
    let class = TABLE.class[byte as usize] as usize & (CLASSES - 1);
    let row = state as usize & (STATES - 1);
    Step(TABLE.next[row][class])
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
