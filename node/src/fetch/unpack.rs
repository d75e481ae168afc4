//! Taking known files out of a tar archive that is compressed with gzip.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::{FetchError, Member};

/// What an archive may hold beyond the files that are taken from it.
const OTHER_BYTES: u64 = 16 << 20;

/// Writes the members to a folder under the names of the catalogue, each whole or not at all. Whatever else the archive
/// holds is left in it.
pub(super) fn unpack(path: &Path, members: &[Member], folder: &Path) -> Result<(), FetchError> {
    let wrong = |reason: String| FetchError::Archive { path: path.into(), reason };
    let broken = |error: io::Error| wrong(format!("it is damaged: {error}"));
    let file = File::open(path).map_err(|error| FetchError::disk(path, error))?;
    let wanted: u64 = members.iter().map(|member| member.bytes).sum();
    // A small archive may unpack to anything; reading ends here.
    let plain = GzDecoder::new(BufReader::new(file)).take(wanted + OTHER_BYTES);
    let mut archive = tar::Archive::new(plain);
    let mut done = vec![false; members.len()];
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path_bytes().into_owned();
        let Some(index) = members.iter().position(|member| member.path.as_bytes() == name) else { continue };
        let member = members[index];
        if done[index] {
            return Err(wrong(format!("{} is in it twice", member.path)));
        }
        if !entry.header().entry_type().is_file() || entry.size() != member.bytes {
            let kind = entry.header().entry_type();
            let got = format!("{kind:?} of {} bytes, expected a file of {}", entry.size(), member.bytes);
            return Err(wrong(format!("{} is a {got}", member.path)));
        }
        write(&mut entry, member, folder).map_err(|error| match error {
            Failure::Archive(error) => broken(error),
            Failure::Disk(error) => FetchError::disk(&folder.join(member.name), error),
        })?;
        done[index] = true;
    }
    match done.iter().position(|done| !done) {
        Some(index) => Err(wrong(format!("{} is not in it", members[index].path))),
        None => Ok(()),
    }
}

/// Whose fault it is that a member cannot be written.
enum Failure {
    Archive(io::Error),
    Disk(io::Error),
}

fn write(entry: &mut impl Read, member: Member, folder: &Path) -> Result<(), Failure> {
    let unfinished = folder.join(format!("{}.unpacking", member.name));
    let mut file = File::create(&unfinished).map_err(Failure::Disk)?;
    let (mut chunk, mut left) = (vec![0; 1 << 16], member.bytes);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        let read = entry.read(&mut chunk[..most]).map_err(Failure::Archive)?;
        if read == 0 {
            return Err(Failure::Archive(io::ErrorKind::UnexpectedEof.into()));
        }
        io::Write::write_all(&mut file, &chunk[..read]).map_err(Failure::Disk)?;
        left -= read as u64;
    }
    file.sync_all().map_err(Failure::Disk)?;
    fs::rename(&unfinished, folder.join(member.name)).map_err(Failure::Disk)
}
