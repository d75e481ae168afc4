//! The secret that guards the admin methods: a file in the data folder that only its owner can read.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Name of the token's file in a node's data folder.
pub const TOKEN_FILE: &str = "rpc-token";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("the admin token {path} cannot be used: {source}; run as the user that runs the node")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} does not hold an admin token (64 hexadecimal digits); remove it and restart the node")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// 32 random bytes in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// The token of a data folder; made, readable by its owner only, when there is none yet.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        if !path.exists() {
            Self::create(data_dir, &path).map_err(|source| TokenError::File { path: path.clone(), source })?;
        }
        Self::read(&path)
    }

    fn create(data_dir: &Path, path: &Path) -> io::Result<()> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        // Temporary files are made with mode 0600; the rename makes the whole token appear at once.
        let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
        writeln!(file, "{}", hex::encode(secret))?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(e.error),
            _ => Ok(()),
        }
    }

    /// The token in a file.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let refuse = |source| TokenError::File { path: path.into(), source };
        let mut text = String::new();
        std::fs::File::open(path).map_err(refuse)?.take(128).read_to_string(&mut text).map_err(refuse)?;
        let token = text.trim_end();
        let is_hex = token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex { Ok(Self(token.to_owned())) } else { Err(TokenError::Malformed { path: path.into() }) }
    }

    /// Value of the HTTP header `Authorization`.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a header's value carries this token; takes the same time wherever the two differ.
    pub fn matches(&self, header: &[u8]) -> bool {
        // blake3::Hash compares in constant time.
        blake3::hash(header) == blake3::hash(self.header().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::open_or_create(dir.path()).unwrap();
        assert_eq!(Token::open_or_create(dir.path()).unwrap(), token);
        let mode = std::fs::metadata(dir.path().join(TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(token.matches(token.header().as_bytes()));
        assert!(!token.matches(b"Bearer 00"));
        assert!(!token.matches(b""));
    }

    #[test]
    fn another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(TOKEN_FILE), "hello\n").unwrap();
        assert!(matches!(Token::open_or_create(dir.path()), Err(TokenError::Malformed { .. })));
        assert!(matches!(Token::read(&dir.path().join("none")), Err(TokenError::File { .. })));
    }
}
