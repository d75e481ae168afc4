//! Names of data sets as users type them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{DataError, Dataset, ImageForm, generate, read_cifar10, read_idx, read_image_folder};

/// Training images of the built-in set.
pub const BUILTIN_TRAIN_IMAGES: u32 = 10_000;
/// Test images of the built-in set.
pub const BUILTIN_TEST_IMAGES: u32 = 2_500;

/// A data set by name: `builtin`, `builtin:SEED`, `cifar10:DIR`, `idx:DIR`, `images:DIR` or `images:DIR@HEIGHTxWIDTH`.
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
    /// A folder of IDX files, as MNIST and its family have them.
    Idx {
        /// Where.
        folder: PathBuf,
    },
    /// A folder of PNG and JPEG files, a folder a class.
    Images {
        /// Where.
        folder: PathBuf,
        /// What every image is brought to.
        form: ImageForm,
    },
}

/// Images to train and to test on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For training and search validation.
    pub train: Dataset,
    /// For sealed test shards.
    pub test: Dataset,
    /// Names of the classes in the order of their labels, for people only.
    pub class_names: Vec<String>,
}

impl Source {
    /// Images whose classes have no names but their labels.
    pub fn numbered(train: Dataset, test: Dataset) -> Self {
        let class_names = (0..train.classes).map(|label| label.to_string()).collect();
        Self { train, test, class_names }
    }
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
            Some(("idx", folder)) => Ok(Self::Idx { folder: folder.into() }),
            Some(("images", rest)) => {
                let (folder, form) = ImageForm::split_off(rest);
                if folder.is_empty() { unknown() } else { Ok(Self::Images { folder: folder.into(), form }) }
            }
            Some(_) => unknown(),
        }
    }
}

impl fmt::Display for DatasetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin { seed } => write!(f, "builtin:{seed}"),
            Self::Cifar10 { folder } => write!(f, "cifar10:{}", folder.display()),
            Self::Idx { folder } => write!(f, "idx:{}", folder.display()),
            // The form is always said: the folder's own name may end like one.
            Self::Images { folder, form } => write!(f, "images:{}@{form}", folder.display()),
        }
    }
}

impl DatasetSpec {
    /// The kind alone: what stands before the colon.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Builtin { .. } => "builtin",
            Self::Cifar10 { .. } => "cifar10",
            Self::Idx { .. } => "idx",
            Self::Images { .. } => "images",
        }
    }

    /// Where its files lie, if it has any.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Builtin { .. } => None,
            Self::Cifar10 { folder } | Self::Idx { folder } | Self::Images { folder, .. } => Some(folder),
        }
    }

    /// The same set with its files at an absolute path, for a program that works in another folder.
    ///
    /// # Errors
    /// [`DataError::Read`] when the folder is not there, [`DataError::Unfit`] when it is no folder.
    pub fn absolute(mut self) -> Result<Self, DataError> {
        if let Self::Cifar10 { folder } | Self::Idx { folder } | Self::Images { folder, .. } = &mut self {
            let found = std::fs::canonicalize(&*folder);
            let found = found.map_err(|source| DataError::Read { path: folder.clone(), source })?;
            if !found.is_dir() {
                return Err(DataError::Unfit { path: found, reason: "it is not a folder".into() });
            }
            *folder = found;
        }
        Ok(self)
    }

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
                Ok(Source::numbered(part("train", BUILTIN_TRAIN_IMAGES), part("test", BUILTIN_TEST_IMAGES)))
            }
            Self::Cifar10 { folder } => read_cifar10(folder),
            Self::Idx { folder } => read_idx(folder),
            Self::Images { folder, form } => read_image_folder(folder, *form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (text, shown) in [
            ("builtin", "builtin:0"),
            ("builtin:a b", "builtin:a b"),
            ("cifar10:x/y", "cifar10:x/y"),
            ("idx:x:y", "idx:x:y"),
            ("images:x", "images:x@32x32"),
            ("images:x@28x24", "images:x@28x24"),
            ("images:x@28x24x1", "images:x@28x24x1"),
            ("images:me@home/x", "images:me@home/x@32x32"),
            ("images:x@32x32@8x8", "images:x@32x32@8x8"),
        ] {
            let spec: DatasetSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), shown);
            assert_eq!(shown.parse::<DatasetSpec>().unwrap(), spec);
            assert!(shown.starts_with(&format!("{}:", spec.kind())));
        }
        for bad in ["", "cifar10", "cifar10:", "builtin:", "mnist:x", "BUILTIN", "idx:", "images:", "images:@8x8"] {
            assert!(matches!(bad.parse::<DatasetSpec>(), Err(DataError::UnknownSpec(_))), "{bad}");
        }
    }

    #[test]
    fn folders_become_absolute_or_are_missed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let absolute = |text: String| text.parse::<DatasetSpec>().unwrap().absolute();
        assert_eq!(absolute("builtin:x".into()).unwrap().folder(), None);
        let spec = absolute(format!("images:{}/../{0}@8x8", folder.path().display()));
        assert!(spec.is_err(), "no such folder");
        let spec = absolute(format!("images:{}/.@8x8", folder.path().display())).unwrap();
        assert_eq!(spec.folder(), Some(folder.path().canonicalize().unwrap().as_path()));
        let text = absolute(format!("idx:{}", file.display())).unwrap_err().to_string();
        assert!(text.contains("not a folder"), "{text}");
    }
}
