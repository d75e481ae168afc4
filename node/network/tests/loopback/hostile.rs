//! Peers that do not follow the protocols: garbage on every one of them, silence, and half-open connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{CHAIN, SOON, TestNode, config, node, start};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use podl_network::{Keypair, Protocol, Verdict, chain_tag};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

/// Writes whatever it is given, without length or sense.
#[derive(Clone, Default)]
struct Raw {
    /// Where there is one, no answer is taken in before it has a permit.
    gate: Option<Arc<Semaphore>>,
}

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(1 << 20).read_to_end(&mut bytes).await.map(|_| bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        p: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        if let Some(gate) = &self.gate {
            let _open = gate.acquire().await.map_err(io::Error::other)?;
        }
        self.read_request(p, io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.flush().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        p: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        self.write_request(p, io, bytes).await
    }
}

/// A peer that passes the handshake of this chain and speaks one protocol, badly.
fn raw_peer(protocol: &str) -> Swarm<request_response::Behaviour<Raw>> {
    raw_peer_with(protocol, Raw::default(), Duration::from_secs(2))
}

fn raw_peer_with(protocol: &str, codec: Raw, within: Duration) -> Swarm<request_response::Behaviour<Raw>> {
    let prologue = format!("podl/1/{}", chain_tag(&CHAIN)).into_bytes();
    let name = StreamProtocol::try_from_owned(protocol.into()).unwrap();
    let timeout = request_response::Config::default().with_request_timeout(within);
    SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            move |key: &Keypair| noise::Config::new(key).map(|c| c.with_prologue(prologue)),
            yamux::Config::default,
        )
        .unwrap()
        .with_quic()
        .with_behaviour(|_| request_response::Behaviour::with_codec(codec, [(name, ProtocolSupport::Full)], timeout))
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

/// Sends payloads on one protocol; true when at least one reached a stream of it.
async fn throw(protocol: &str, target: &TestNode, address: Multiaddr, payloads: &[Vec<u8>]) -> bool {
    let mut peer = raw_peer(protocol);
    peer.dial(address).unwrap();
    let (mut open, mut reached) = (0, false);
    let throwing = async {
        loop {
            match peer.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => {
                    for payload in payloads {
                        peer.behaviour_mut().send_request(&target.id(), payload.clone());
                        open += 1;
                    }
                }
                SwarmEvent::Behaviour(request_response::Event::Message { .. }) => (open, reached) = (open - 1, true),
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { error, .. }) => {
                    open -= 1;
                    reached |= !matches!(error, request_response::OutboundFailure::UnsupportedProtocols);
                }
                _ => {}
            }
            if open == 0 && reached {
                return;
            }
        }
    };
    let _ended = tokio::time::timeout(Duration::from_secs(5), throwing).await;
    reached
}

fn payloads() -> Vec<Vec<u8>> {
    let mut noise = vec![0u8; 100_000];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    vec![
        vec![],
        vec![0],
        // A length of 4 GiB, and one of 10 with 3 bytes behind it.
        vec![0xff; 4],
        vec![0, 0, 0, 10, 1, 2, 3],
        // A well-formed length before senseless bytes.
        [100u32.to_be_bytes().to_vec(), noise[..100].to_vec()].concat(),
        // A varint without end, as protobuf framing has them.
        vec![0x80; 50],
        [vec![0xa0, 0x8d, 0x06], noise.clone()].concat(),
        noise,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_every_protocol_harms_nobody() {
    let mut target = config(CHAIN);
    target.nat.enabled = true;
    target.nat.serve = true;
    // A relay serves from the moment that it knows how it is reached.
    target.external = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let (mut target, other) = (start(target).await, node(&[]).await);
    other.handle.dial(target.tcp()).await.unwrap();
    other.settle(1).await;
    let tag = chain_tag(&CHAIN);
    let ours = ["sync/1", "pool/1", "blob/1", "kad/1", "gossip/1.1.0"].map(|name| format!("/podl/{tag}/{name}"));
    let theirs = ["/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/hop"];
    for protocol in ours.iter().map(String::as_str).chain(theirs) {
        for address in [target.tcp(), target.quic()] {
            assert!(throw(protocol, &target, address, &payloads()).await, "{protocol} was not reached");
        }
    }
    // The node works as before.
    other.handle.publish("votes", b"still here".to_vec()).unwrap();
    let message = target.gossip().await;
    assert_eq!(message.bytes, b"still here");
    target.handle.report(message.id, message.peer, Verdict::Accept).unwrap();
    let bytes = vec![5; 1 << 20];
    let root = target.handle.blobs().insert(&bytes).unwrap();
    other.handle.fetch(root, 1 << 20, &[target.id()]).await.unwrap();
    let (answer, ()) = tokio::join!(other.handle.request(target.id(), Protocol::Sync, vec![1]), async {
        target.request().await.reply.send(vec![2]).unwrap();
    });
    assert_eq!(answer, Ok(vec![2]));
    assert_eq!(target.handle.peers().await.unwrap().len(), 1, "none of the hostile peers counts as one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_say_its_chain_is_closed() {
    let mut target = config(CHAIN);
    target.limits.identify_within = Duration::from_secs(1);
    let target = start(target).await;
    for address in [target.tcp(), target.quic()] {
        let mut peer = raw_peer("/silent");
        peer.dial(address).unwrap();
        let closed = async {
            loop {
                if let SwarmEvent::ConnectionClosed { .. } = peer.select_next_some().await {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed in time");
    }
    assert!(target.handle.peers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_and_silence_on_the_port_keep_nobody_out_for_long() {
    let (target, other) = (node(&[]).await, node(&[]).await);
    let port = target.addresses[0].iter().find_map(|p| match p {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let mut open = Vec::new();
    for n in 0..64u8 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port.unwrap())).await.unwrap();
        if n % 2 == 0 {
            // An error means that it was refused at once.
            let _refused = stream.write_all(&[n; 1000]).await;
        }
        open.push(stream);
    }
    let connected = async {
        while other.handle.dial(target.tcp()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), connected).await.expect("half-open connections time out");
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_and_takes_nothing_in_is_sent_no_more() {
    const ASKED: usize = 6;
    const ANSWER: usize = 600_000;
    let mut tight = config(CHAIN);
    // Two answers fit. Each is larger than the window of a stream, so that it stays under way until it is read.
    tight.limits.answer_bytes_per_peer = 2 * ANSWER + 100_000;
    tight.sync.timeout = SOON;
    let mut target = start(tight).await;
    let gate = Arc::new(Semaphore::new(0));
    let reader = Raw { gate: Some(gate.clone()) };
    let mut peer = raw_peer_with(&format!("/podl/{}/sync/1", chain_tag(&CHAIN)), reader, SOON);
    peer.dial(target.tcp()).unwrap();
    let id = target.id();
    let asking = tokio::spawn(async move {
        let mut answers = Vec::new();
        while answers.len() < ASKED {
            match peer.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => (0..ASKED).for_each(|_| {
                    peer.behaviour_mut().send_request(&id, vec![0, 0, 0, 1, 7]);
                }),
                SwarmEvent::Behaviour(request_response::Event::Message {
                    message: request_response::Message::Response { response, .. },
                    ..
                }) => answers.push(response.len()),
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { .. }) => answers.push(0),
                _ => {}
            }
        }
        answers
    });
    for _ in 0..ASKED {
        target.request().await.reply.send(vec![7; ANSWER]).unwrap();
    }
    // A call that is answered in order: all answers are under way or dropped.
    target.handle.peers().await.unwrap();
    gate.add_permits(ASKED);
    let answers = tokio::time::timeout(2 * SOON, asking).await.expect("in time").unwrap();
    assert_eq!(answers.iter().filter(|length| **length == 4 + ANSWER).count(), 2, "{answers:?}");
}
