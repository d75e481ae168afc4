//! The store on a real disk.

use podl_chain_spec::Hash32;

use super::geometry::{PIECE_BYTES, pieces};
use super::store::{BlobStore, Held};
use crate::error::BlobError;

fn blob(bytes: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof();
    let mut blob = vec![0; bytes];
    reader.fill(&mut blob);
    blob
}

fn root_of(bytes: &[u8]) -> Hash32 {
    Hash32(*blake3::hash(bytes).as_bytes())
}

#[test]
fn blobs_survive_a_restart_and_are_listed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let blobs: Vec<Vec<u8>> = [0, 1, 16 << 10, 700_000].iter().map(|n| blob(*n, *n as u64)).collect();
    let store = BlobStore::open(folder.path(), 1 << 20).unwrap();
    for bytes in &blobs {
        assert_eq!(store.insert(bytes).unwrap(), root_of(bytes));
        assert_eq!(store.insert(bytes).unwrap(), root_of(bytes), "twice is no error");
    }
    let held = blobs.iter().map(|b| b.len() as u64).sum::<u64>();
    assert_eq!(store.held_bytes(), held);
    drop(store);
    let store = BlobStore::open(folder.path(), 1 << 20).unwrap();
    assert_eq!((store.held_bytes(), store.list().len()), (held, 4));
    for bytes in &blobs {
        assert_eq!(store.get(&root_of(bytes)).unwrap(), *bytes);
    }
    assert!(store.delete(&root_of(&blobs[3])).unwrap() && !store.delete(&root_of(&blobs[3])).unwrap());
    assert!(matches!(store.get(&root_of(&blobs[3])), Err(BlobError::Missing(_))));
    assert_eq!(store.held_bytes(), held - 700_000);
    let names = std::fs::read_dir(folder.path().join("whole")).unwrap().count();
    assert_eq!(names, 6, "data and hashes of three blobs");
}

#[test]
fn the_quota_holds_and_begun_blobs_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), 1_000_000).unwrap();
    let (small, large) = (blob(600_000, 1), blob(500_000, 2));
    store.begin(root_of(&small), 600_000).unwrap();
    let full = store.insert(&large).unwrap_err();
    assert!(matches!(full, BlobError::Quota { held: 600_000, quota: 1_000_000, wanted: 500_000 }), "{full}");
    assert!(matches!(store.begin(root_of(&large), 500_000), Err(BlobError::Quota { .. })));
    assert!(matches!(store.begin(root_of(&large), u64::MAX), Err(BlobError::Quota { .. })));
    store.insert(&small).unwrap();
    assert_eq!(store.held_bytes(), 600_000, "what was begun is counted once");
    store.delete(&root_of(&small)).unwrap();
    store.insert(&large).unwrap();
}

#[test]
fn a_damaged_blob_is_noticed_dropped_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), 1 << 30).unwrap();
    let bytes = blob(600_000, 3);
    let root = store.insert(&bytes).unwrap();
    let data = std::fs::read_dir(folder.path().join("whole")).unwrap().map(|e| e.unwrap().path());
    let data = data.into_iter().find(|p| p.extension().is_some_and(|e| e == "data")).unwrap();
    let mut damaged = bytes.clone();
    damaged[300_000] ^= 1;
    std::fs::write(&data, &damaged).unwrap();
    assert!(store.read_piece(&root, 600_000, 0).is_some(), "the first piece is sound");
    assert!(store.read_piece(&root, 600_000, 1).is_none(), "the second is not");
    assert!(matches!(store.get(&root), Err(BlobError::Damaged(_))));
    assert!(!store.contains(&root));
    store.insert(&bytes).unwrap();
    assert_eq!(store.get(&root).unwrap(), bytes);
}

#[test]
fn a_fetch_goes_on_after_a_restart_with_what_is_sound() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = blob(5 * PIECE_BYTES as usize + 77, 4);
    let length = bytes.len() as u64;
    let source = BlobStore::open(from.path(), 1 << 30).unwrap();
    let root = source.insert(&bytes).unwrap();
    let piece = |n: u32| source.read_piece(&root, length, n).unwrap();
    {
        let store = BlobStore::open(to.path(), 1 << 30).unwrap();
        let partial = store.begin(root, length).unwrap();
        for n in [0, 2, 5] {
            partial.write(n, &piece(n)).unwrap();
        }
        let refused = partial.write(1, &piece(2)).unwrap_err();
        assert!(matches!(refused, BlobError::BadPiece { piece: 1, .. }), "{refused}");
        assert!(matches!(store.held(&root), Held::Partial { here, .. } if here.count() == 3));
        assert_eq!(store.read_piece(&root, length, 2), Some(piece(2)), "a part is served too");
        assert_eq!(store.read_piece(&root, length, 1), None);
        assert!(matches!(store.begin(root, length + 1), Err(BlobError::OtherLength { .. })));
    }
    // As after a power cut: the map promises piece 2, the data of which never reached the disk.
    let data = std::fs::read_dir(to.path().join("partial")).unwrap().map(|e| e.unwrap().path());
    let data = data.into_iter().find(|p| p.extension().is_some_and(|e| e == "data")).unwrap();
    let mut torn = std::fs::read(&data).unwrap();
    torn[2 * PIECE_BYTES as usize + 9] ^= 1;
    std::fs::write(&data, &torn).unwrap();
    let store = BlobStore::open(to.path(), 1 << 30).unwrap();
    assert_eq!(store.list_partial(), [(root, length)]);
    assert!(!store.contains(&root) && store.held_bytes() == length);
    let partial = store.begin(root, length).unwrap();
    assert_eq!(partial.here().missing().collect::<Vec<_>>(), [1, 2, 3, 4]);
    for n in 0..pieces(length) {
        partial.write(n, &piece(n)).unwrap();
    }
    store.finish(&partial).unwrap();
    assert_eq!(store.get(&root).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(to.path().join("partial")).unwrap().count(), 0);
    drop(store);
    assert_eq!(BlobStore::open(to.path(), 1 << 30).unwrap().get(&root).unwrap(), bytes);
}

#[test]
fn what_a_crash_left_is_swept_and_other_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = blob(50_000, 5);
    let root = BlobStore::open(folder.path(), 1 << 30).unwrap().insert(&bytes).unwrap();
    let name = "ab".repeat(32);
    for left in [format!("partial/{name}.new"), format!("partial/{name}.data"), format!("whole/{name}.tree")] {
        std::fs::write(folder.path().join(left), b"left").unwrap();
    }
    std::fs::write(folder.path().join("partial/README"), b"mine").unwrap();
    std::fs::write(folder.path().join(format!("partial/{name}.map")), b"torn").unwrap();
    let store = BlobStore::open(folder.path(), 1 << 30).unwrap();
    assert_eq!(store.list(), [(root, 50_000)]);
    assert!(store.list_partial().is_empty());
    assert_eq!(store.get(&root).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path().join("partial")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("whole")).unwrap().count(), 2);
}

#[test]
fn random_bytes_are_refused_by_every_decoder_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), 1 << 30).unwrap();
    let bytes = blob(2 * PIECE_BYTES as usize, 6);
    let partial = store.begin(root_of(&bytes), bytes.len() as u64).unwrap();
    for n in 0..500u64 {
        let noise = blob((n * n) as usize % 70_000, n);
        if let Ok(answer) = super::protocol::decode::<super::protocol::BlobResponse>(&noise) {
            assert!(super::protocol::encode(&answer).len() <= noise.len());
        }
        if let Ok(question) = super::protocol::decode::<super::protocol::BlobRequest>(&noise) {
            assert!(super::protocol::encode(&question).len() <= noise.len());
        }
        assert!(partial.write(n as u32 % 3, &noise).is_err());
    }
    assert_eq!(partial.here().count(), 0);
}

#[test]
fn a_made_up_length_does_not_keep_a_blob_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), 1_000_000).unwrap();
    let bytes = blob(600_000, 9);
    let root = root_of(&bytes);
    let claimed = store.begin(root, 1_000_000).unwrap();
    let refused = store.begin(root, 600_000).unwrap_err();
    assert!(matches!(refused, BlobError::OtherLength { begun: 1_000_000, got: 600_000, .. }), "{refused}");
    drop(claimed);
    // Nobody fetches it any more, as after a fetch that was given up.
    let partial = store.begin(root, 600_000).unwrap();
    assert_eq!(store.held_bytes(), 600_000);
    store.abandon_empty(&partial);
    assert_eq!((store.held_bytes(), store.list_partial()), (0, vec![]), "nothing came: nothing takes room");
    let begun = store.begin(root, 1).unwrap();
    drop(begun);
    let store = BlobStore::open(folder.path(), 1_000_000).unwrap();
    assert_eq!(store.list_partial(), [(root, 1)]);
    store.begin(root, 600_000).unwrap();
    assert_eq!(store.held_bytes(), 600_000);
}
