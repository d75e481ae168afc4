//! Where a passphrase comes from: a file, the environment, or the keyboard.

use std::io::IsTerminal;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::WalletError;

/// Environment variable that holds a passphrase.
pub const PASSWORD_VARIABLE: &str = "PODL_PASSWORD";
/// Fewest characters of a new passphrase.
const LEAST_CHARACTERS: usize = 8;

/// A passphrase; wiped from memory when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// A passphrase.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Where to look for the passphrase, in this order: file, environment, keyboard.
#[derive(Clone, Debug, Default)]
pub struct PassphraseSource {
    /// `--password-file`.
    pub file: Option<PathBuf>,
    /// Value of [`PASSWORD_VARIABLE`].
    pub environment: Option<Passphrase>,
}

impl PassphraseSource {
    /// A source with the environment of this process.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, environment: std::env::var(PASSWORD_VARIABLE).ok().map(Passphrase::new) }
    }

    /// The passphrase of an existing wallet.
    ///
    /// # Errors
    /// [`WalletError::Passphrase`] when there is none, and nobody to ask.
    pub fn get(&self, prompt: &str) -> Result<Passphrase, WalletError> {
        match self.unattended()? {
            Some(passphrase) => Ok(passphrase),
            None => ask(prompt),
        }
    }

    /// A passphrase for a new wallet: long enough, and typed twice.
    ///
    /// # Errors
    /// [`WalletError::Passphrase`].
    pub fn choose(&self, prompt: &str) -> Result<Passphrase, WalletError> {
        let chosen = match self.unattended()? {
            Some(passphrase) => passphrase,
            None => {
                let first = ask(prompt)?;
                if ask("The same again: ")?.as_bytes() != first.as_bytes() {
                    return Err(WalletError::Passphrase("the two passphrases differ; try again".into()));
                }
                first
            }
        };
        let got = chosen.0.chars().count();
        if got < LEAST_CHARACTERS {
            let text = format!("a passphrase of {got} characters is too short; take at least {LEAST_CHARACTERS}");
            return Err(WalletError::Passphrase(text));
        }
        Ok(chosen)
    }

    fn unattended(&self) -> Result<Option<Passphrase>, WalletError> {
        let Some(path) = &self.file else { return Ok(self.environment.clone()) };
        let refuse = |what: String| WalletError::Passphrase(format!("the password file {}: {what}", path.display()));
        let bytes = Zeroizing::new(crate::sealed::read_bounded(path)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| refuse("is not text".into()))?;
        // Editors end files with a line break; a passphrase of several lines is most likely the wrong file.
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.contains('\n') {
            return Err(refuse("must hold exactly one line".into()));
        }
        Ok(Some(Passphrase::new(line)))
    }
}

fn ask(prompt: &str) -> Result<Passphrase, WalletError> {
    if !std::io::stdin().is_terminal() {
        let text = format!(
            "no passphrase: give --password-file FILE or set {PASSWORD_VARIABLE} (there is no terminal to ask at)"
        );
        return Err(WalletError::Passphrase(text));
    }
    let refuse = |e: std::io::Error| WalletError::Passphrase(format!("the passphrase cannot be read: {e}"));
    rpassword::prompt_password(prompt).map(Passphrase::new).map_err(refuse)
}
