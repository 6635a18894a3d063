use std::vec::Vec;

use super::*;

/// The tokens that a stretch of bytes gives from a root.
fn tokens(root: u16, bytes: &[u8]) -> Vec<u8> {
    let mut state = root;
    let mut found = Vec::new();
    for byte in bytes {
        let step = Step::at(state).next(*byte);
        state = step.state();
        assert_eq!(step.has_token(), token(state) != 0);
        if step.has_token() {
            found.push(token(state));
        }
    }
    found
}

fn of(tokens_wanted: &[Token]) -> Vec<u8> {
    tokens_wanted.iter().map(|token| *token as u8).collect()
}

#[test]
fn a_client_hello_is_known_by_its_eleventh_byte() {
    let hello = [0x16, 3, 1, 6, 1, 1, 0, 5, 0xfd, 3, 3];
    let length = [Token::LengthByte; 2];
    for end in 0..hello.len() {
        // The record's length is at its fourth byte and its fifth.
        assert_eq!(tokens(START, &hello[..end]), of(&length[..end.saturating_sub(3).min(2)]));
    }
    assert_eq!(tokens(START, &hello), of(&[length[0], length[1], Token::TlsClientHello]));
}

#[test]
fn brackets_are_counted_outside_of_strings() {
    let mut depth = 0;
    let mut state = CONTENT;
    for byte in br#" {"a{": [1, {}, "\"]"], "b": "}"} "# {
        let step = Step::at(state).next(*byte);
        state = step.state();
        depth += step.bracket();
        assert!((0..=3).contains(&depth), "{depth}");
    }
    assert_eq!(depth, 0);
}

#[test]
fn bytes_of_no_word_lead_from_every_state_to_a_state() {
    for state in 0..STATES as u16 {
        for byte in 0..=u8::MAX {
            assert!(usize::from(Step::at(state).next(byte).state()) < STATES);
        }
    }
}
