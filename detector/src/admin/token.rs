//! Owns the token that clients may show instead of a certificate: a file, read again when it changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// The token that is in a file.
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    path: PathBuf,
    current: RwLock<Vec<u8>>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Token {
    /// What may be guessed is no token.
    const SHORTEST: usize = 16;

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or what is in it is too short to be secret.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let current = RwLock::new(read(&path)?);
        Ok(Self(Arc::new(Inner { path, current })))
    }

    /// Reads the file again; without a token in it, the former one stays.
    pub fn reload(&self) {
        match read(&self.0.path) {
            Ok(token) => *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = token,
            Err(error) => {
                tracing::error!(%error, path = %self.0.path.display(), "admin port: the former token holds")
            }
        }
    }

    /// Whether `shown` is the token. It takes as long for any of its length.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let token = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        let differ = token.iter().zip(shown).fold(0, |differ, (a, b)| differ | (a ^ b));
        token.len() == shown.len() && differ == 0
    }
}

/// The token in a file, without the line's end.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let token = fs::read(path)?.trim_ascii().to_vec();
    if token.len() < Token::SHORTEST {
        let shortest = Token::SHORTEST;
        return Err(io::Error::other(format!("a token of less than {shortest} bytes can be guessed")));
    }
    Ok(token)
}
