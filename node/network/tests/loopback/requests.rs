//! Requests and answers over loopback sockets.

use std::time::{Duration, Instant};

use crate::common::{CHAIN, SOON, TestNode, banned, config, node, start};
use podl_network::{NetworkEvent, Protocol, ProtocolLimits, RequestError};

/// Answers every request with its bytes reversed.
fn echo(mut node: TestNode) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let request = node.request().await;
            let answer = request.bytes.iter().rev().copied().collect();
            request.reply.send(answer).unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_on_every_protocol_up_to_the_limit() {
    let (a, b) = (node(&[]).await, node(&[]).await);
    let id = a.id();
    b.handle.dial(a.quic()).await.unwrap();
    echo(a);
    for protocol in [Protocol::Sync, Protocol::Pool] {
        let limit = ProtocolLimits::default().request_bytes;
        let bytes: Vec<u8> = (0..limit).map(|n| n as u8).collect();
        let answer = b.handle.request(id, protocol, bytes.clone()).await.unwrap();
        assert!(answer.iter().rev().eq(bytes.iter()));
        assert_eq!(b.handle.request(id, protocol, Vec::new()).await, Ok(Vec::new()));
        let long = b.handle.request(id, protocol, vec![0; limit + 1]).await;
        assert_eq!(long, Err(RequestError::TooLong { got: limit + 1, limit }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_connects_to_a_peer_that_is_known() {
    let boot = node(&[]).await;
    let mut short = config(CHAIN);
    short.bootnodes = vec![boot.tcp()];
    short.limits.ban_for = Duration::from_secs(1);
    let (a, mut b) = (node(&[&boot]).await, start(short).await);
    b.settle(2).await;
    let id = a.id();
    b.ban(id);
    b.wait_for("closing", |e| matches!(e, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    echo(a);
    // Refused until the ban is over; then the connection is made anew.
    let answered = async {
        loop {
            match b.handle.request(id, Protocol::Sync, vec![1, 2]).await {
                Err(RequestError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
                answer => return answer,
            }
        }
    };
    assert_eq!(tokio::time::timeout(SOON, answered).await.expect("connected in time"), Ok(vec![2, 1]));
    let nobody = podl_network::PeerId::random();
    assert_eq!(b.handle.request(nobody, Protocol::Sync, vec![1]).await, Err(RequestError::Unreachable(nobody)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_silence_and_farewell_end_a_request() {
    let mut short = config(CHAIN);
    short.pool.timeout = Duration::from_secs(2);
    let (mut a, b) = (node(&[]).await, start(short).await);
    let id = a.id();
    b.handle.dial(a.tcp()).await.unwrap();
    let (refused, request) = tokio::join!(b.handle.request(id, Protocol::Sync, vec![1]), a.request());
    drop(request);
    // Whoever drops a request refuses it; here it was held until the asker's side was seen waiting.
    assert!(refused.is_err());
    let asked = Instant::now();
    let (silent, held) = tokio::join!(b.handle.request(id, Protocol::Pool, vec![1]), a.request());
    assert_eq!(silent, Err(RequestError::Timeout(id)));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(!held.reply.is_open() || held.reply.send(vec![1]).is_ok(), "a late answer harms nobody");
    let (gone, ()) = tokio::join!(b.handle.request(id, Protocol::Sync, vec![1]), async {
        let request = a.request().await;
        a.handle.shutdown().await;
        drop(request);
    });
    assert_eq!(gone, Err(RequestError::Refused(id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_answer_is_refused_and_blamed() {
    let mut generous = config(CHAIN);
    generous.sync.response_bytes = 8 << 20;
    let (mut a, b) = (start(generous).await, node(&[]).await);
    let id = a.id();
    b.handle.dial(a.tcp()).await.unwrap();
    let (answer, ()) = tokio::join!(b.handle.request(id, Protocol::Sync, vec![1]), async {
        a.request().await.reply.send(vec![0; 5 << 20]).unwrap();
    });
    let error = answer.unwrap_err();
    assert!(matches!(&error, RequestError::BadAnswer { .. }), "{error:?}");
    assert!(error.to_string().contains("5242880 bytes, at most 4194304"), "{error}");
    assert!(b.handle.peers().await.unwrap()[0].points >= 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_requests_are_refused_and_their_sender_banned() {
    let mut generous = config(CHAIN);
    generous.sync.request_bytes = 8 << 20;
    let (a, mut b) = (start(generous).await, node(&[]).await);
    a.handle.dial(b.tcp()).await.unwrap();
    b.connected(a.id()).await;
    for _ in 0..5 {
        let (handle, id) = (a.handle.clone(), b.id());
        tokio::spawn(async move { handle.request(id, Protocol::Sync, vec![0; 1 << 20]).await });
    }
    let (who, why) = b.wait_for("ban", banned).await;
    assert!(who == a.id() && why.contains("malformed") && why.contains("1048576 bytes"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_bans_its_sender_and_others_are_served() {
    let mut strict = config(CHAIN);
    strict.sync.requests_per_s = 5;
    strict.sync.requests_burst = 20;
    strict.limits.flood_factor = 2;
    let strict = start(strict).await;
    let (flooder, honest) = (node(&[]).await, node(&[]).await);
    flooder.handle.dial(strict.tcp()).await.unwrap();
    honest.handle.dial(strict.tcp()).await.unwrap();
    let id = strict.id();
    let (address, handle) = (strict.tcp(), strict.handle.clone());
    echo(strict);
    let mut served = 0;
    for n in 0..200u32 {
        served += u32::from(flooder.handle.request(id, Protocol::Sync, n.to_be_bytes().to_vec()).await.is_ok());
        if handle.peers().await.unwrap().iter().all(|p| p.peer != flooder.id()) {
            break;
        }
    }
    assert!((20..60).contains(&served), "{served}");
    assert!(flooder.handle.dial(address).await.is_err(), "banned");
    assert_eq!(honest.handle.request(id, Protocol::Sync, vec![1, 2, 3]).await, Ok(vec![3, 2, 1]));
}
