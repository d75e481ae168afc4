//! What gossip keeps of a peer that writes its own frames.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::gossipsub::MessageAcceptance;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use podl_chain_spec::Hash32;

use super::*;
use crate::config::TopicConfig;

/// Writes one frame on a stream, and reads nothing.
#[derive(Clone, Default)]
struct Frame;

impl request_response::Codec for Frame {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()> {
        io.read_to_end(&mut Vec::new()).await.map(|_| ())
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        frame: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&frame).await?;
        io.flush().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()> {
        Ok(())
    }
}

fn swarm<B: NetworkBehaviour>(key: Keypair, behaviour: B) -> Swarm<B> {
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| Ok(behaviour))
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2], varint(bytes.len()).as_slice(), bytes].concat()
}

fn framed(rpc: &[u8]) -> Vec<u8> {
    [varint(rpc.len()).as_slice(), rpc].concat()
}

/// A frame with one well-signed message.
fn message(key: &Keypair, topic: &TopicHash, data: &[u8], number: u64) -> Vec<u8> {
    let from = key.public().to_peer_id().to_bytes();
    let parts = [field(1, &from), field(2, data), field(3, &number.to_be_bytes()), field(4, topic.as_str().as_bytes())];
    let message = parts.concat();
    let signature = key.sign(&[b"libp2p-pubsub:".as_slice(), &message].concat()).unwrap();
    framed(&field(2, &[message, field(5, &signature)].concat()))
}

/// A frame that subscribes to topics.
fn subscriptions(topics: impl Iterator<Item = String>) -> Vec<u8> {
    let one = |topic: String| field(1, &[vec![1 << 3, 1], field(2, topic.as_bytes())].concat());
    framed(&topics.map(one).collect::<Vec<_>>().concat())
}

/// Sends frames to a node's gossip and runs both until the node has got a last message on one of its topics. Returns
/// the node's gossip and who sent.
async fn hear(frames: impl FnOnce(&Keypair, &Topics) -> Vec<Vec<u8>>) -> (Swarm<Behaviour>, PeerId, Topics) {
    let mut config = NetworkConfig::new(Hash32([1; 32]), Keypair::generate_ed25519());
    config.topics = vec![TopicConfig { name: "votes".into(), limit_bytes: 512 }];
    let topics = Topics::new(&config);
    let mut node = swarm(config.keypair.clone(), behaviour(&config, &topics, &config.keypair).unwrap());
    node.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = node.select_next_some().await {
            break address;
        }
    };
    let key = Keypair::generate_ed25519();
    let name = StreamProtocol::try_from_owned(format!("/podl/{}/gossip/1.1.0", chain_tag(&config.chain))).unwrap();
    let settings = request_response::Config::default().with_request_timeout(Duration::from_secs(60));
    let raw = request_response::Behaviour::<Frame>::new([(name, ProtocolSupport::Full)], settings);
    let mut stranger = swarm(key.clone(), raw);
    stranger.dial(address).unwrap();
    let last = message(&key, &topics.get("votes").unwrap().0.hash(), b"last", u64::MAX);
    // One after the other in one stream, as gossip has them.
    let all = [frames(&key, &topics).concat(), last].concat();
    let (id, mut all) = (*node.local_peer_id(), Some(all));
    let heard = async {
        loop {
            tokio::select! {
                event = node.select_next_some() => match event {
                    SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) if message.data == b"last" => return,
                    _ => {}
                },
                event = stranger.select_next_some() => if let SwarmEvent::ConnectionEstablished { .. } = event {
                    let frames = all.take().unwrap();
                    stranger.behaviour_mut().send_request(&id, frames);
                },
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("the last message came");
    (node, key.public().to_peer_id(), topics)
}

#[tokio::test]
async fn messages_on_topics_that_nobody_joined_are_not_kept() {
    let foreign = TopicHash::from_raw("weather");
    let frame = |key: &Keypair, _: &Topics| (0..3).map(|n| message(key, &foreign, &[7; 400], n)).collect();
    let (mut node, stranger, topics) = hear(frame).await;
    let mut settle = |topic: &TopicHash, data: &[u8]| {
        let id = GossipId::of(topic, data).message_id();
        node.behaviour_mut().report_message_validation_result(&id, &stranger, MessageAcceptance::Ignore)
    };
    assert!(settle(&topics.get("votes").unwrap().0.hash(), b"last"), "what waits for a verdict is kept");
    assert!(!settle(&foreign, &[7; 400]), "what never gets one is not");
}

#[tokio::test]
async fn subscriptions_to_other_topics_are_not_remembered() {
    let frame = |_: &Keypair, topics: &Topics| {
        let own = topics.get("votes").unwrap().0.hash().into_string();
        vec![subscriptions((0..500).map(|n| format!("weather {n}")).chain([own]))]
    };
    let (node, stranger, topics) = hear(frame).await;
    let (_, known) = node.behaviour().all_peers().find(|(peer, _)| **peer == stranger).unwrap();
    assert_eq!(known, [&topics.get("votes").unwrap().0.hash()]);
}

#[tokio::test]
async fn messages_right_behind_a_long_one_are_heard() {
    // The last message follows in the same segment.
    hear(|key, topics| vec![message(key, &topics.get("votes").unwrap().0.hash(), &[7; 512], 1)]).await;
}
