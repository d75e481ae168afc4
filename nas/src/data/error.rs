//! Why data cannot be used: always the user's files or request, never this program.

use std::path::PathBuf;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The name of a data set is not of a known form.
    #[error(
        "unknown data set {0:?}: expected builtin, builtin:SEED, cifar10:DIR, idx:DIR, images:DIR or \
         images:DIR@HEIGHTxWIDTH"
    )]
    UnknownSpec(String),
    /// A folder or file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that must be there is not.
    #[error("{folder} holds no {what}; {layout}")]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is missing.
        what: String,
        /// What such a folder consists of.
        layout: &'static str,
    },
    /// A file is damaged.
    #[error("{path} is damaged at record {record}: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which record, from 0.
        record: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder as a whole is not what it should be.
    #[error("cannot use {path}: {reason}")]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There are too few images to cut as asked.
    #[error("too few {what} images: {got}, the split needs {expected}")]
    TooFew {
        /// Of which part.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many are needed.
        expected: usize,
    },
}
