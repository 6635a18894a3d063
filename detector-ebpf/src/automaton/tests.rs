use std::vec::Vec;

use super::*;

/// The tokens that a stretch of bytes gives from a root.
fn tokens(root: u16, bytes: &[u8]) -> Vec<u8> {
    let mut state = root;
    let mut found = Vec::new();
    for byte in bytes {
        let step = step(state, *byte);
        state = step.state();
        assert_eq!(step.hit() == 1, token(state) != 0);
        if step.hit() == 1 {
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
    for end in 0..hello.len() {
        assert_eq!(tokens(START, &hello[..end]), of(&[]));
    }
    assert_eq!(tokens(START, &hello), of(&[Token::TlsClientHello]));
}
