//! Names of data sets as users type them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{DataError, Dataset, generate, read_cifar10};

/// Training images of the built-in set.
pub const BUILTIN_TRAIN_IMAGES: u32 = 10_000;
/// Test images of the built-in set.
pub const BUILTIN_TEST_IMAGES: u32 = 2_500;

/// A data set by name: `builtin`, `builtin:SEED` or `cifar10:DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatasetSpec {
    /// The generated set of that seed text.
    Builtin {
        /// Any text; `0` if none was given.
        seed: String,
    },
    /// A folder in the binary layout of CIFAR-10.
    Cifar10 {
        /// Where.
        folder: PathBuf,
    },
}

/// Images to train and to test on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For training and search validation.
    pub train: Dataset,
    /// For sealed test shards.
    pub test: Dataset,
}

impl FromStr for DatasetSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let unknown = || Err(DataError::UnknownSpec(text.into()));
        match text.split_once(':') {
            None if text == "builtin" => Ok(Self::Builtin { seed: "0".into() }),
            None => unknown(),
            Some((_, "")) => unknown(),
            Some(("builtin", seed)) => Ok(Self::Builtin { seed: seed.into() }),
            Some(("cifar10", folder)) => Ok(Self::Cifar10 { folder: folder.into() }),
            Some(("idx", _)) => Err(DataError::NotSupportedYet("idx")),
            Some(("images", _)) => Err(DataError::NotSupportedYet("images")),
            Some(_) => unknown(),
        }
    }
}

impl fmt::Display for DatasetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin { seed } => write!(f, "builtin:{seed}"),
            Self::Cifar10 { folder } => write!(f, "cifar10:{}", folder.display()),
        }
    }
}

impl DatasetSpec {
    /// Reads or generates the set.
    ///
    /// # Errors
    /// [`DataError`] when files are missing or damaged.
    pub fn load(&self) -> Result<Source, DataError> {
        match self {
            Self::Builtin { seed } => {
                // Two seeds, so that no number of training images ever reaches into the test part.
                let part = |part: &str, images| {
                    let mut hasher = blake3::Hasher::new_derive_key("podl v1 built-in data set");
                    hasher.update(part.as_bytes()).update(b":").update(seed.as_bytes());
                    generate(hasher.finalize().as_bytes(), images)
                };
                Ok(Source { train: part("train", BUILTIN_TRAIN_IMAGES), test: part("test", BUILTIN_TEST_IMAGES) })
            }
            Self::Cifar10 { folder } => read_cifar10(folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (text, shown) in [("builtin", "builtin:0"), ("builtin:a b", "builtin:a b"), ("cifar10:x/y", "cifar10:x/y")]
        {
            let spec: DatasetSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), shown);
            assert_eq!(shown.parse::<DatasetSpec>().unwrap(), spec);
        }
        for bad in ["", "cifar10", "cifar10:", "builtin:", "mnist:x", "BUILTIN"] {
            assert!(matches!(bad.parse::<DatasetSpec>(), Err(DataError::UnknownSpec(_))), "{bad}");
        }
        let later = "idx:d".parse::<DatasetSpec>().unwrap_err().to_string();
        assert!(later.contains("idx: are not supported yet"), "{later}");
        assert!(matches!("images:d".parse::<DatasetSpec>(), Err(DataError::NotSupportedYet("images"))));
    }
}
