//! Verified transfer of blobs over loopback sockets, from honest and hostile peers.

use std::time::{Duration, Instant};

use crate::common::{CHAIN, TestNode, banned, config, node, start, start_in};
use podl_network::{BlobStore, FetchError, NetworkEvent, Protocol};

const MIB: usize = 1 << 20;

fn blob(bytes: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof();
    let mut blob = vec![0; bytes];
    reader.fill(&mut blob);
    blob
}

/// A node whose owner answers requests for blobs by itself.
async fn hostile() -> TestNode {
    let mut config = config(CHAIN);
    config.blobs.serve = false;
    start(config).await
}

/// The kind of a request for a blob, as it is on the wire: 0 what do you have, 1 a piece.
fn is_piece(request: &[u8]) -> bool {
    request[0] == 1
}

/// `Whole { bytes }` on the wire: variant 1 and a varint.
fn whole(mut bytes: u64) -> Vec<u8> {
    let mut wire = vec![1];
    while bytes >= 0x80 {
        wire.push((bytes as u8) | 0x80);
        bytes >>= 7;
    }
    wire.push(bytes as u8);
    wire
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_comes_from_one_peer_at_a_fair_speed() {
    let (a, b) = (node(&[]).await, node(&[]).await);
    b.handle.dial(a.tcp()).await.unwrap();
    for bytes in [blob(0, 0), blob(1, 1), blob(20 * MIB, 2)] {
        let root = a.handle.blobs().insert(&bytes).unwrap();
        let began = Instant::now();
        b.handle.fetch(root, bytes.len() as u64, &[a.id()]).await.unwrap();
        println!("{} bytes in {:?}", bytes.len(), began.elapsed());
        assert_eq!(b.handle.blobs().get(&root).unwrap(), bytes);
        b.handle.fetch(root, bytes.len() as u64, &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_megabytes_from_three_peers_of_which_one_lies_and_one_stalls() {
    let bytes = blob(20 * MIB, 3);
    let length = bytes.len() as u64;
    let (honest, mut liar, mut staller) = (node(&[]).await, hostile().await, hostile().await);
    let root = honest.handle.blobs().insert(&bytes).unwrap();
    let mut fetcher = node(&[]).await;
    for peer in [&honest, &liar, &staller] {
        fetcher.handle.dial(peer.tcp()).await.unwrap();
    }
    let (liar_id, staller_id) = (liar.id(), staller.id());
    let lying = tokio::spawn(async move {
        let mut lies = 0;
        while let Some(event) = liar.events.recv().await {
            if let NetworkEvent::Request(request) = event {
                let piece = is_piece(&request.bytes);
                lies += usize::from(piece);
                // A piece of the right size with a false byte: variant 3, length, data.
                let answer =
                    if piece { [vec![3, 0x80, 0x80, 0x10], vec![9; 256 << 10]].concat() } else { whole(length) };
                request.reply.send(answer).unwrap();
            }
        }
        lies
    });
    let stalling = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(event) = staller.events.recv().await {
            match event {
                NetworkEvent::Request(request) if is_piece(&request.bytes) => held.push(request),
                NetworkEvent::Request(request) => request.reply.send(whole(length)).unwrap(),
                _ => {}
            }
        }
        held.len()
    });
    let began = Instant::now();
    // The hostile two are named first.
    fetcher.handle.fetch(root, length, &[liar_id, staller_id, honest.id()]).await.unwrap();
    println!("20 MiB beside a liar and a staller in {:?}", began.elapsed());
    assert_eq!(fetcher.handle.blobs().get(&root).unwrap(), bytes);
    assert!(began.elapsed() < Duration::from_secs(15), "the staller did not hold it up: {:?}", began.elapsed());
    let (who, why) = fetcher.wait_for("ban", banned).await;
    assert!(who == liar_id && why.contains("false piece"), "{who}: {why}");
    let peers = fetcher.handle.peers().await.unwrap();
    let points = |id| peers.iter().find(|p| p.peer == id).map(|p| p.points);
    assert_eq!(points(honest.id()), Some(0), "the honest peer is not blamed");
    assert!(points(staller_id).is_some_and(|p| p >= 5), "the staller is: {:?}", points(staller_id));
    fetcher.handle.shutdown().await;
    lying.abort();
    stalling.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_goes_on_after_the_source_died_and_the_node_restarted() {
    let bytes = blob(12 * MIB, 4);
    let length = bytes.len() as u64;
    let mut slow = config(CHAIN);
    slow.blobs.serve_bytes_per_s = 3 << 20;
    let source = start(slow).await;
    let root = source.handle.blobs().insert(&bytes).unwrap();
    let mut short = config(CHAIN);
    short.blobs.idle_timeout = Duration::from_secs(2);
    let fetcher = start(short.clone()).await;
    fetcher.handle.dial(source.quic()).await.unwrap();
    let handle = fetcher.handle.clone();
    let fetching = tokio::spawn(async move { handle.fetch(root, length, &[]).await });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    source.handle.shutdown().await;
    let failed = fetching.await.unwrap().unwrap_err();
    let FetchError::NoProvider { have, pieces, .. } = &failed else { panic!("{failed:?}") };
    assert!(*have > 0 && have < pieces, "{failed}");
    let had = *have;
    fetcher.handle.shutdown().await;
    let TestNode { handle, events, folder, .. } = fetcher;
    drop((handle, events));
    let fetcher = start_in(short, folder).await;
    assert_eq!(fetcher.handle.blobs().list_partial(), [(root, length)]);
    // The new source only ever answers for the pieces that are missing.
    let mut counting = hostile().await;
    let store_folder = tempfile::tempdir().unwrap();
    let honest = node(&[]).await;
    honest.handle.blobs().insert(&bytes).unwrap();
    counting.handle.dial(honest.tcp()).await.unwrap();
    fetcher.handle.dial(counting.tcp()).await.unwrap();
    let (proxy, honest_id) = (counting.handle.clone(), honest.id());
    let counted = tokio::spawn(async move {
        let mut asked = 0;
        while let Some(event) = counting.events.recv().await {
            if let NetworkEvent::Request(request) = event {
                asked += u32::from(is_piece(&request.bytes));
                let answer = proxy.request(honest_id, Protocol::Blob, request.bytes).await.unwrap();
                request.reply.send(answer).unwrap();
                if asked == pieces_of(length) - had {
                    break;
                }
            }
        }
        asked
    });
    fetcher.handle.fetch(root, length, &[]).await.unwrap();
    assert_eq!(fetcher.handle.blobs().get(&root).unwrap(), bytes);
    assert_eq!(counted.await.unwrap(), pieces_of(length) - had, "nothing is fetched twice");
    drop(store_folder);
}

fn pieces_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(256 << 10)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_length_blames_nobody_who_is_honest() {
    let bytes = blob(MIB, 5);
    let mut short = config(CHAIN);
    short.blobs.idle_timeout = Duration::from_secs(2);
    let (source, fetcher) = (node(&[]).await, start(short).await);
    let root = source.handle.blobs().insert(&bytes).unwrap();
    fetcher.handle.dial(source.tcp()).await.unwrap();
    for length in [0, MIB as u64 - 1, MIB as u64 + 1] {
        let failed = fetcher.handle.fetch(root, length, &[source.id()]).await.unwrap_err();
        assert!(matches!(failed, FetchError::NoProvider { have: 0, .. }), "{failed:?}");
        assert_eq!(fetcher.handle.blobs().held_bytes(), 0, "nothing is kept of what was made up");
    }
    assert_eq!(fetcher.handle.peers().await.unwrap()[0].points, 0);
    fetcher.handle.fetch(root, MIB as u64, &[source.id()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_swapped_and_senseless_answers_are_refused_and_blamed() {
    let bytes = blob(MIB, 6);
    let length = bytes.len() as u64;
    let folder = tempfile::tempdir().unwrap();
    let root = BlobStore::open(folder.path(), 1 << 30).unwrap().insert(&bytes).unwrap();
    let garbage = move |kind: usize| match kind {
        0 => vec![],
        1 => vec![0xff; 300],
        2 => vec![3, 0],
        3 => whole(length),
        // A map of pieces with too many bits.
        _ => vec![2, 0x80, 0x80, 0x40, 3, 1, 1, 1],
    };
    for kind in 0..5 {
        let mut short = config(CHAIN);
        short.blobs.idle_timeout = Duration::from_secs(1);
        let (mut liar, fetcher) = (hostile().await, start(short).await);
        fetcher.handle.dial(liar.tcp()).await.unwrap();
        let lying = tokio::spawn(async move {
            while let Some(event) = liar.events.recv().await {
                if let NetworkEvent::Request(request) = event {
                    let honest = !is_piece(&request.bytes) && kind < 4;
                    request.reply.send(if honest { whole(length) } else { garbage(kind) }).unwrap();
                }
            }
        });
        let failed = fetcher.handle.fetch(root, length, &[]).await.unwrap_err();
        assert!(matches!(failed, FetchError::NoProvider { have: 0, .. }), "{failed:?}");
        let blamed = fetcher.handle.peers().await.unwrap().first().map(|p| p.points);
        assert!(blamed.is_none_or(|points| points >= 15), "kind {kind}: {blamed:?}");
        lying.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fetches_of_one_blob_share_it_and_rates_hold() {
    let bytes = blob(4 * MIB, 7);
    let length = bytes.len() as u64;
    let source = node(&[]).await;
    let root = source.handle.blobs().insert(&bytes).unwrap();
    let mut slow = config(CHAIN);
    slow.blobs.fetch_bytes_per_s = 1 << 20;
    let fetcher = start(slow).await;
    fetcher.handle.dial(source.tcp()).await.unwrap();
    let began = Instant::now();
    let (one, two) = tokio::join!(fetcher.handle.fetch(root, length, &[]), fetcher.handle.fetch(root, length, &[]));
    assert!(one.is_ok() && two.is_ok());
    // One megabyte at once, three more in three seconds; twice that if it were fetched twice.
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2500) && took < Duration::from_secs(6), "{took:?}");
    assert_eq!(fetcher.handle.blobs().get(&root).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_have_a_part_serve_it_while_they_fetch() {
    let bytes = blob(8 * MIB, 8);
    let length = bytes.len() as u64;
    let mut slow = config(CHAIN);
    slow.blobs.serve_bytes_per_s = 2 << 20;
    let source = start(slow).await;
    let root = source.handle.blobs().insert(&bytes).unwrap();
    let (near, far) = (node(&[]).await, node(&[]).await);
    near.handle.dial(source.tcp()).await.unwrap();
    // The far node knows only the near one, which has nothing yet.
    far.ban(source.id());
    far.handle.dial(near.tcp()).await.unwrap();
    let (one, two) = tokio::join!(near.handle.fetch(root, length, &[]), far.handle.fetch(root, length, &[]));
    one.unwrap();
    two.unwrap();
    assert_eq!(far.handle.blobs().get(&root).unwrap(), bytes);
}
