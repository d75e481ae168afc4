//! Connecting, refusing and stopping, over loopback sockets.

use std::time::{Duration, Instant};

use crate::common::{CHAIN, banned, config, node, start};
use podl_chain_spec::Hash32;
use podl_network::{DialError, Multiaddr, Network, NetworkError, NetworkEvent, NetworkPorts, Protocol};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_connect_by_tcp_and_by_quic() {
    for quic in [false, true] {
        let (mut a, mut b) = (node(&[]).await, node(&[]).await);
        let address = if quic { a.quic() } else { a.tcp() };
        assert_eq!(b.handle.dial(address.clone()).await, Ok(a.id()));
        a.connected(b.id()).await;
        b.connected(a.id()).await;
        let peers = b.handle.peers().await.unwrap();
        assert_eq!(peers.len(), 1);
        assert!(peers[0].outbound && peers[0].address.to_string().contains(if quic { "quic" } else { "tcp" }));
        assert_eq!(b.handle.dial(address).await, Ok(a.id()), "once more is no error");
        b.handle.shutdown().await;
        a.wait_for("farewell", |e| matches!(e, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_know_one_bootnode_find_each_other() {
    let mut first = node(&[]).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(node(&[&first]).await);
    }
    for other in &others {
        other.settle(3).await;
    }
    first.connected(others[2].id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootnode_that_comes_back_is_dialled_again() {
    let mut first = config(CHAIN);
    first.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let boot = start(first.clone()).await;
    let address = boot.addresses[0].clone();
    let mut other = node(&[&boot]).await;
    other.connected(boot.id()).await;
    boot.handle.shutdown().await;
    other.wait_for("farewell", |e| matches!(e, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    first.listen = vec![address];
    let boot = start(first).await;
    other.connected(boot.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_chain_is_refused_in_words() {
    for quic in [false, true] {
        let mut ours = node(&[]).await;
        let mut theirs = start(config(Hash32([0xbb; 32]))).await;
        let address = if quic { theirs.quic() } else { theirs.tcp() };
        let error = ours.handle.dial(address).await.unwrap_err();
        assert!(matches!(error, DialError::WrongChain { .. }), "{error:?}");
        assert!(error.to_string().contains("another chain") && error.to_string().contains("aaaaaaaaaaaaaaaa"));
        let told = ours
            .wait_for("word of another chain", |e| match e {
                NetworkEvent::WrongChain { theirs, .. } => Some(theirs),
                NetworkEvent::PeerConnected { .. } => panic!("connected to another chain"),
                _ => None,
            })
            .await;
        assert!(!quic || told.contains("bbbbbbbbbbbbbbbb"), "{told}");
        let connected = |e| matches!(e, NetworkEvent::PeerConnected { .. }).then_some(());
        assert_eq!(theirs.sees(Duration::from_millis(500), connected).await, None);
        assert!(ours.handle.peers().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_said_in_words() {
    let a = node(&[]).await;
    let nowhere: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
    let error = a.handle.dial(nowhere).await.unwrap_err();
    assert!(matches!(&error, DialError::Unreachable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said_in_words() {
    let a = node(&[]).await;
    for taken in a.addresses.clone() {
        let mut second = config(CHAIN);
        second.listen = vec![taken];
        let folder = tempfile::tempdir().unwrap();
        let blobs = std::sync::Arc::new(podl_network::BlobStore::open(folder.path(), 1).unwrap());
        let error = Network::start(second, NetworkPorts { blobs }).await.unwrap_err();
        assert!(matches!(error, NetworkError::AddressInUse { .. }), "{error:?}");
        assert!(error.to_string().contains("in use"));
    }
    let mut nonsense = config(CHAIN);
    nonsense.bootnodes = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let folder = tempfile::tempdir().unwrap();
    let blobs = std::sync::Arc::new(podl_network::BlobStore::open(folder.path(), 1).unwrap());
    let error = Network::start(nonsense, NetworkPorts { blobs }).await.unwrap_err();
    assert!(matches!(error, NetworkError::Address { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_closes_refuses_and_ends() {
    let mut short = config(CHAIN);
    short.limits.ban_for = Duration::from_secs(3);
    let (mut a, mut b) = (start(short).await, node(&[]).await);
    b.handle.dial(a.tcp()).await.unwrap();
    a.connected(b.id()).await;
    a.ban(b.id());
    assert_eq!(a.wait_for("ban", banned).await, (b.id(), "false piece of a blob: as the test wants".to_string()));
    b.wait_for("closing", |e| matches!(e, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    assert_eq!(a.handle.dial(b.tcp()).await, Err(DialError::Banned(b.id())));
    let again = b.handle.dial(a.tcp()).await;
    assert!(again.is_err(), "{again:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(b.handle.dial(a.tcp()).await, Ok(a.id()), "the ban is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_with_peers_stops_within_two_seconds() {
    let a = node(&[]).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(node(&[&a]).await);
    }
    a.settle(4).await;
    let began = Instant::now();
    a.handle.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(matches!(a.handle.peers().await, Err(NetworkError::Closed)));
    assert!(matches!(a.handle.publish("votes", vec![1]), Err(NetworkError::Closed)));
    a.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_stops_when_its_handles_are_dropped() {
    let (mut a, b) = (node(&[]).await, node(&[]).await);
    b.handle.dial(a.tcp()).await.unwrap();
    a.connected(b.id()).await;
    drop(b);
    a.wait_for("farewell", |e| matches!(e, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_listens_nowhere_is_reached_through_a_relay() {
    // A relay serves only once it knows its address, so that the port has to be known before.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let mut relay = config(CHAIN);
    relay.listen = vec![address.clone()];
    relay.external = vec![address];
    relay.nat.serve = true;
    let relay = start(relay).await;
    let mut hidden = config(CHAIN);
    hidden.listen.clear();
    hidden.nat.enabled = true;
    hidden.nat.relays = vec![relay.tcp()];
    let mut hidden = start(hidden).await;
    let through = hidden
        .wait_for("place at the relay", |e| match e {
            NetworkEvent::Listening(address) if address.to_string().contains("p2p-circuit") => Some(address),
            _ => None,
        })
        .await;
    let mut caller = config(CHAIN);
    caller.listen.clear();
    let caller = start(caller).await;
    assert_eq!(caller.handle.dial(through).await, Ok(hidden.id()));
    let (answer, ()) = tokio::join!(caller.handle.request(hidden.id(), Protocol::Pool, vec![1]), async {
        hidden.request().await.reply.send(vec![2]).unwrap();
    });
    assert_eq!(answer, Ok(vec![2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_relay_went_away_listens_there_again_when_it_is_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let mut serving = config(CHAIN);
    serving.listen = vec![address.clone()];
    serving.external = vec![address];
    serving.nat.serve = true;
    let relay = start(serving.clone()).await;
    let mut hidden = config(CHAIN);
    hidden.listen.clear();
    hidden.nat.enabled = true;
    hidden.nat.relays = vec![relay.tcp()];
    let mut hidden = start(hidden).await;
    let place = |e| match e {
        NetworkEvent::Listening(address) if address.to_string().contains("p2p-circuit") => Some(address),
        _ => None,
    };
    hidden.wait_for("place at the relay", place).await;
    relay.handle.shutdown().await;
    hidden.wait_for("farewell", |e| matches!(e, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    let _relay = start(serving).await;
    hidden.wait_for("place at the relay that is back", place).await;
}
