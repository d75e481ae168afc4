//! Which files are which class and part.

use std::path::{Path, PathBuf};

use super::super::{DataError, MOST_CLASSES, Random};

const LAYOUT: &str =
    "an image folder has train/CLASS/*.png (or .jpg, .jpeg) and test/CLASS/*.png, or CLASS/*.png alone";
/// Endings of images, in lower case.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Most files of one folder: with the smallest images there could be no more in a data set.
const MOST_FILES: usize = 1 << 24;
/// One of so many images is for testing where nothing says which.
const TEST_SHARE: usize = 5;

/// An image file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: PathBuf,
    pub label: u16,
}

/// All files of a folder by part, sorted by class and name.
#[derive(Debug)]
pub(super) struct Listing {
    pub class_names: Vec<String>,
    pub train: Vec<Entry>,
    pub test: Vec<Entry>,
}

fn unfit(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Unfit { path: path.into(), reason: reason.into() }
}

/// Lists a folder.
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    let entries = visible(folder)?;
    let has = |name: &str| entries.contains(&folder.join(name));
    match (has("train"), has("test")) {
        (true, true) => in_parts(folder, &entries),
        (false, false) => in_classes(folder, &entries),
        (has_train, _) => {
            let (there, lacking) = if has_train { ("train", "test") } else { ("test", "train") };
            Err(unfit(folder, format!("it has the folder {there} but no {lacking}; {LAYOUT}")))
        }
    }
}

fn in_parts(folder: &Path, entries: &[PathBuf]) -> Result<Listing, DataError> {
    let parts = [folder.join("train"), folder.join("test")];
    if let Some(other) = entries.iter().find(|entry| !parts.contains(entry)) {
        return Err(unfit(other, format!("it is neither train nor test; {LAYOUT}")));
    }
    let class_folders = class_folders(&parts[0])?;
    let class_names: Vec<String> = class_folders.iter().map(|(name, _)| name.clone()).collect();
    let mut listing = Listing { class_names, train: Vec::new(), test: Vec::new() };
    for (label, (_, path)) in (0..).zip(&class_folders) {
        listing.train.extend(files(path)?.into_iter().map(|path| Entry { path, label }));
    }
    for (name, path) in subfolders(&parts[1])? {
        let known = listing.class_names.binary_search(&name).ok().and_then(|index| u16::try_from(index).ok());
        let label = known.ok_or_else(|| unfit(&path, "there is no class of that name in train"))?;
        listing.test.extend(files(&path)?.into_iter().map(|path| Entry { path, label }));
    }
    if listing.test.is_empty() { Err(unfit(&parts[1], "it holds no classes")) } else { Ok(listing) }
}

fn in_classes(folder: &Path, entries: &[PathBuf]) -> Result<Listing, DataError> {
    if entries.is_empty() {
        return Err(DataError::Missing { folder: folder.into(), what: "classes".into(), layout: LAYOUT });
    }
    let mut listing = Listing { class_names: Vec::new(), train: Vec::new(), test: Vec::new() };
    for (label, (name, path)) in (0..).zip(class_folders(folder)?) {
        let mut files = files(&path)?;
        if files.len() < 2 {
            return Err(unfit(&path, "it holds 1 image; without train and test folders a class needs 2 at least"));
        }
        let seed = *blake3::hash(name.as_bytes()).as_bytes();
        Random::new("podl v1 image folder split", &seed, 0).shuffle(&mut files);
        let test = files.split_off(files.len() - test_images(files.len()));
        listing.train.extend(files.into_iter().map(|path| Entry { path, label }));
        listing.test.extend(test.into_iter().map(|path| Entry { path, label }));
        listing.class_names.push(name);
    }
    Ok(listing)
}

/// A fifth, rounded, one at least.
fn test_images(images: usize) -> usize {
    ((images + TEST_SHARE / 2) / TEST_SHARE).max(1)
}

/// Names and paths of the class folders, 2 to [`MOST_CLASSES`], in byte order of their names.
fn class_folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let classes = subfolders(folder)?;
    if (2..=usize::from(MOST_CLASSES)).contains(&classes.len()) {
        return Ok(classes);
    }
    Err(unfit(folder, format!("{} classes, expected 2 to {MOST_CLASSES}; {LAYOUT}", classes.len())))
}

fn subfolders(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let named = |path: PathBuf| {
        if !path.is_dir() {
            return Err(unfit(&path, format!("it is not the folder of a class; {LAYOUT}")));
        }
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        Ok((name.ok_or_else(|| unfit(&path, "the name of a class must be UTF-8"))?, path))
    };
    visible(folder)?.into_iter().map(named).collect()
}

/// The image files of a class in byte order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let files = visible(folder)?;
    let is_image = |path: &Path| {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        path.is_file() && ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
    };
    if let Some(other) = files.iter().find(|path| !is_image(path)) {
        return Err(unfit(other, "it is no .png, .jpg or .jpeg file; only names that begin with a dot are ignored"));
    }
    if files.is_empty() { Err(unfit(folder, "it holds no images")) } else { Ok(files) }
}

/// What a folder holds but for names that begin with a dot, sorted: the order of listings differs between machines.
fn visible(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read_error = |source| DataError::Read { path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if paths.len() == MOST_FILES {
            return Err(unfit(folder, format!("it holds more than {MOST_FILES} files")));
        }
        paths.push(entry.path());
    }
    paths.sort();
    Ok(paths)
}
