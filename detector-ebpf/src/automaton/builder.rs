//! Owns the making of the table, in constant evaluation: a mistake in the grammar does not compile.
//!
//! Words are laid over a state that already has a complete row. A new node on a word's path starts as a copy
//! of the state that the byte led to before, so that a word that breaks off goes on exactly as if it had
//! never been begun; that is the subset construction, for the case that matters here.

use super::{CLASSES, CLOSES, OPENS, STATE_SHIFT, STATES, TOKEN, TRANSITIONS};

/// The finished table.
pub(super) struct Table {
    /// Class of each byte.
    pub(super) class: [u8; 256],
    /// Transitions: a row of classes for each state, one after the other.
    pub(super) next: [u32; TRANSITIONS],
    /// Token of each state, 0 for none.
    pub(super) token: [u8; STATES],
}

/// A table that is being made.
pub(super) struct Builder {
    class: [u8; 256],
    classes: u8,
    next: [[u16; CLASSES]; STATES],
    token: [u8; STATES],
    brackets: [u32; STATES],
    /// Node of a word: its row may be written by other words of the same root.
    node: [bool; STATES],
    states: u16,
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
impl Builder {
    /// A builder with one class, for every byte that is never named.
    pub(super) const fn new() -> Self {
        Self {
            class: [0; 256],
            classes: 1,
            next: [[0; CLASSES]; STATES],
            token: [0; STATES],
            brackets: [0; STATES],
            node: [false; STATES],
            states: 0,
        }
    }

    /// Gives each of these bytes a class of its own; letters share one over both cases.
    ///
    /// All bytes that the grammar names must be named here first, before any row is copied.
    pub(super) const fn name(&mut self, bytes: &[u8]) {
        let mut index = 0;
        while index < bytes.len() {
            let byte = bytes[index].to_ascii_lowercase();
            if self.class[byte as usize] == 0 {
                assert!((self.classes as usize) < CLASSES, "too many classes of bytes");
                self.class[byte as usize] = self.classes;
                self.class[byte.to_ascii_uppercase() as usize] = self.classes;
                self.classes += 1;
            }
            index += 1;
        }
    }

    /// Gives these bytes one class that they share.
    pub(super) const fn name_alike(&mut self, bytes: &[u8]) {
        assert!((self.classes as usize) < CLASSES, "too many classes of bytes");
        let mut index = 0;
        while index < bytes.len() {
            self.class[bytes[index] as usize] = self.classes;
            index += 1;
        }
        self.classes += 1;
    }

    const fn class_of(&self, byte: u8) -> usize {
        let class = self.class[byte as usize] as usize;
        assert!(class != 0, "the grammar uses a byte that was not named");
        class
    }

    /// A new state in which every byte leads to itself.
    pub(super) const fn state(&mut self) -> u16 {
        let state = self.states;
        assert!((state as usize) < STATES, "too many states");
        self.states += 1;
        let mut class = 0;
        while class < CLASSES {
            self.next[state as usize][class] = state;
            class += 1;
        }
        state
    }

    /// A new state that goes on like another.
    pub(super) const fn like(&mut self, other: u16) -> u16 {
        let state = self.state();
        self.next[state as usize] = self.next[other as usize];
        state
    }

    /// A new state that goes on like another and has a token.
    pub(super) const fn accept(&mut self, token: u8, other: u16) -> u16 {
        let state = self.like(other);
        self.token[state as usize] = token;
        state
    }

    /// Marks a state as one that is entered by an opening bracket.
    pub(super) const fn opens(&mut self, state: u16) {
        self.brackets[state as usize] = OPENS;
    }

    /// Marks a state as one that is entered by a closing bracket.
    pub(super) const fn closes(&mut self, state: u16) {
        self.brackets[state as usize] = CLOSES;
    }

    /// Every byte leads from `from` to `to`.
    pub(super) const fn all(&mut self, from: u16, to: u16) {
        let mut class = 0;
        while class < CLASSES {
            self.next[from as usize][class] = to;
            class += 1;
        }
    }

    /// `to` goes on like `from` from now on.
    pub(super) const fn copy(&mut self, from: u16, to: u16) {
        self.next[to as usize] = self.next[from as usize];
    }

    /// Each of these bytes leads from `from` to `to`.
    pub(super) const fn on(&mut self, from: u16, bytes: &[u8], to: u16) {
        let mut index = 0;
        while index < bytes.len() {
            let class = self.class_of(bytes[index]);
            assert!(!self.node[self.next[from as usize][class] as usize], "a byte would cut off a path");
            self.next[from as usize][class] = to;
            index += 1;
        }
    }

    /// Where a byte leads.
    pub(super) const fn after(&self, from: u16, byte: u8) -> u16 {
        self.next[from as usize][self.class_of(byte)]
    }

    /// Lays a path over `root`, and answers its last node. A path that breaks off goes on as before.
    pub(super) const fn path(&mut self, root: u16, word: &[u8]) -> u16 {
        self.lay(root, word, None)
    }

    /// Lays a path over `root`, and answers its last node. A path that breaks off goes on like `otherwise`.
    pub(super) const fn path_or(&mut self, root: u16, word: &[u8], otherwise: u16) -> u16 {
        self.lay(root, word, Some(otherwise))
    }

    const fn lay(&mut self, root: u16, word: &[u8], otherwise: Option<u16>) -> u16 {
        let mut at = root;
        let mut index = 0;
        while index < word.len() {
            let class = self.class_of(word[index]);
            let before = self.next[at as usize][class];
            if self.node[before as usize] {
                at = before;
            } else {
                assert!(self.token[before as usize] == 0 || otherwise.is_some(), "a path would lose a token");
                assert!(self.brackets[before as usize] == 0, "a path would lose a bracket");
                let node = match otherwise {
                    Some(otherwise) => self.like(otherwise),
                    None => self.like(before),
                };
                self.node[node as usize] = true;
                self.next[at as usize][class] = node;
                at = node;
            }
            index += 1;
        }
        at
    }

    /// The table, with every transition marked by what its target is.
    pub(super) const fn finish(self) -> Table {
        let mut next = [0; TRANSITIONS];
        let mut state = 0;
        while state < self.states as usize {
            let mut class = 0;
            while class < CLASSES {
                let to = self.next[state][class] as usize;
                assert!(to < self.states as usize, "a transition leads nowhere");
                let token = if self.token[to] == 0 { 0 } else { TOKEN };
                next[state * CLASSES + class] = (to as u32) << STATE_SHIFT | self.brackets[to] | token;
                class += 1;
            }
            state += 1;
        }
        Table { class: self.class, next, token: self.token }
    }
}
