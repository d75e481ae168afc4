//! Gossip with the owner's verdicts, over loopback sockets.

use std::time::Duration;

use crate::common::{CHAIN, TestNode, banned, config, gossip, node, start};
use podl_network::{NetworkError, TopicConfig, Verdict};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_publishes_to_nobody() {
    let a = node(&[]).await;
    a.handle.publish("votes", b"alone".to_vec()).unwrap();
    a.handle.publish("votes", b"alone".to_vec()).unwrap();
    let unknown = a.handle.publish("weather", vec![]);
    assert!(matches!(unknown, Err(NetworkError::UnknownTopic(_))));
    let long = a.handle.publish("votes", vec![0; 513]);
    assert!(matches!(long, Err(NetworkError::TooLong { got: 513, limit: 512, .. })));
    assert!(a.handle.peers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_hear_what_is_accepted_even_at_the_limit() {
    let first = node(&[]).await;
    let mut nodes = vec![first];
    for _ in 0..3 {
        nodes.push(node(&[&nodes[0]]).await);
    }
    for node in &nodes {
        node.settle(3).await;
    }
    for (topic, length) in [("votes", 512), ("blocks", 3 << 20)] {
        nodes[1].handle.publish(topic, vec![7; length]).unwrap();
        for at in [0, 2, 3] {
            let message = nodes[at].gossip().await;
            assert_eq!((message.topic.as_str(), message.bytes.len()), (topic, length));
            nodes[at].handle.report(message.id, message.peer, Verdict::Accept).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_accepted_is_passed_on() {
    // A and C know each other only through B.
    let (a, mut b, mut c) = (node(&[]).await, node(&[]).await, node(&[]).await);
    a.ban(c.id());
    c.ban(a.id());
    b.handle.dial(a.tcp()).await.unwrap();
    b.handle.dial(c.quic()).await.unwrap();
    b.settle(2).await;
    for (bytes, verdict, arrives) in [
        (b"good".to_vec(), Verdict::Accept, true),
        (b"late".to_vec(), Verdict::Ignore, false),
        (b"evil".to_vec(), Verdict::Reject, false),
        (b"slow".to_vec(), Verdict::Accept, true),
    ] {
        a.handle.publish("votes", bytes.clone()).unwrap();
        let message = b.gossip().await;
        assert_eq!((message.peer, &message.bytes), (a.id(), &bytes));
        // Nothing goes on before the verdict.
        if bytes == b"slow" {
            assert!(c.sees(Duration::from_secs(3), gossip).await.is_none());
        }
        b.handle.report(message.id, message.peer, verdict).unwrap();
        if arrives {
            let passed_on = c.gossip().await;
            assert_eq!((passed_on.peer, passed_on.id, passed_on.bytes), (b.id(), message.id, bytes));
        } else {
            assert!(c.sees(Duration::from_secs(2), gossip).await.is_none());
        }
    }
    let points = b.handle.peers().await.unwrap().into_iter().find(|p| p.peer == a.id()).unwrap().points;
    assert!((15..=20).contains(&points), "one rejected message: {points}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_messages_are_rejected_is_banned() {
    let (a, mut b) = (node(&[]).await, node(&[]).await);
    b.handle.dial(a.tcp()).await.unwrap();
    b.settle(1).await;
    for n in 0..5u8 {
        a.handle.publish("votes", vec![n]).unwrap();
        let message = b.gossip().await;
        b.handle.report(message.id, message.peer, Verdict::Reject).unwrap();
    }
    let (who, why) = b.wait_for("ban", banned).await;
    assert_eq!(who, a.id());
    assert!(why.contains("invalid message"), "{why}");
    b.wait_for("closing", |e| matches!(e, podl_network::NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    assert!(b.handle.peers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_the_topics_limit_never_arrives() {
    // The sender's own configuration allows what others do not.
    let mut lenient = config(CHAIN);
    lenient.topics[0] = TopicConfig { name: "votes".into(), limit_bytes: 1 << 20 };
    let (a, mut b) = (start(lenient).await, node(&[]).await);
    b.handle.dial(a.tcp()).await.unwrap();
    b.settle(1).await;
    a.handle.publish("votes", vec![1; 100_000]).unwrap();
    assert!(b.sees(Duration::from_secs(2), gossip).await.is_none());
    a.handle.publish("votes", b"short".to_vec()).unwrap();
    assert_eq!(b.gossip().await.bytes, b"short");
    for n in 0..6 {
        a.handle.publish("votes", vec![n; 200_000]).unwrap();
    }
    let (who, why) = b.wait_for("ban", banned).await;
    assert_eq!(who, a.id());
    assert!(why.contains("gossip score"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_dropped_and_its_source_banned() {
    let (a, mut b) = (config(CHAIN), config(CHAIN));
    let a = start(a).await;
    b.limits.gossip_per_s = 10;
    b.limits.gossip_burst = 100;
    b.limits.flood_factor = 2;
    let mut b = start(b).await;
    b.handle.dial(a.tcp()).await.unwrap();
    b.settle(1).await;
    for n in 0..1000u32 {
        a.handle.publish("votes", n.to_be_bytes().to_vec()).unwrap();
    }
    let mut heard = 0;
    let (who, why) = b
        .wait_for("ban", |e| {
            heard += usize::from(gossip_event(&e));
            banned(e)
        })
        .await;
    assert_eq!(who, a.id());
    assert!(why.contains("flood"), "{why}");
    assert!((50..=200).contains(&heard), "{heard} of 1000 were heard");
}

fn gossip_event(event: &podl_network::NetworkEvent) -> bool {
    matches!(event, podl_network::NetworkEvent::Gossip(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_nobody_judges_do_not_fill_the_memory() {
    let mut tight = config(CHAIN);
    // A quarter for one peer: three messages of 300 KB.
    tight.limits.unjudged_bytes = 4_000_000;
    let (a, mut b) = (node(&[]).await, start(tight).await);
    b.handle.dial(a.tcp()).await.unwrap();
    b.settle(1).await;
    let hear_all = async |b: &mut TestNode, round: u8| {
        for n in 0..10u8 {
            a.handle.publish("blocks", [vec![round, n], vec![7; 300_000]].concat()).unwrap();
        }
        a.handle.publish("votes", vec![round]).unwrap();
        let mut heard = Vec::new();
        loop {
            let message = b.gossip().await;
            if message.topic == "votes" {
                b.handle.report(message.id, message.peer, Verdict::Accept).unwrap();
                return heard;
            }
            heard.push(message);
        }
    };
    let heard = hear_all(&mut b, 0).await;
    assert_eq!(heard.len(), 3, "the owner read them and said nothing");
    assert_eq!(hear_all(&mut b, 1).await.len(), 0);
    for message in heard {
        b.handle.report(message.id, message.peer, Verdict::Ignore).unwrap();
    }
    // A call that is answered in order: the verdicts are in.
    assert_eq!(b.handle.peers().await.unwrap()[0].points, 0, "a busy owner is nobody's fault");
    for n in 0..3u8 {
        a.handle.publish("blocks", vec![2, n]).unwrap();
        b.gossip().await;
    }
}
