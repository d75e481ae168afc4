//! Gossip: topics of this chain, ids by content, and scores that tell useful peers from harmful ones.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use libp2p::gossipsub::{
    self, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, RawMessage, TopicHash, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;

use crate::config::{GOSSIP_OVERHEAD_BYTES, NetworkConfig, chain_tag};

/// Beats of the mesh. A vote needs about one network round trip; lost ones are recovered by gossip within two beats.
const HEARTBEAT: Duration = Duration::from_millis(700);
/// Beats that a message waits for the application's verdict before it is forgotten: a candidate's takes as long as
/// fetching its blobs and scoring it, a minute and more.
const HISTORY_BEATS: usize = 260;
/// A message is not taken twice within this time.
const DUPLICATES_FOR: Duration = Duration::from_secs(300);
/// What may lie in the reader's buffer behind a message. The library counts it with the message, and would close the
/// stream on an honest peer that sends the next one right behind a long one.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// Below this score a peer is given no gossip.
const GOSSIP_THRESHOLD: f64 = -40.0;
/// Below this score own messages are not sent to a peer.
const PUBLISH_THRESHOLD: f64 = -80.0;
/// Below this score a peer's messages are not read.
pub(crate) const GRAYLIST_THRESHOLD: f64 = -160.0;

/// Name of a gossiped message: hash of topic and payload, so that the same content is the same message whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub [u8; 32]);

impl GossipId {
    fn of(topic: &TopicHash, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 gossip message id");
        hasher.update(&(topic.as_str().len() as u64).to_be_bytes());
        hasher.update(topic.as_str().as_bytes());
        hasher.update(bytes);
        Self(*hasher.finalize().as_bytes())
    }

    pub(crate) fn message_id(self) -> MessageId {
        MessageId::new(&self.0)
    }

    pub(crate) fn from_message_id(id: &MessageId) -> Option<Self> {
        id.0.as_slice().try_into().ok().map(Self)
    }
}

/// The application's topics and what they are called on the network.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, (IdentTopic, usize)>,
    by_hash: HashMap<TopicHash, String>,
}

impl Topics {
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        let tag = chain_tag(&config.chain);
        let topic = |name: &str| IdentTopic::new(format!("podl/{tag}/{name}"));
        let by_name: BTreeMap<_, _> =
            config.topics.iter().map(|t| (t.name.clone(), (topic(&t.name), t.limit_bytes))).collect();
        let by_hash = by_name.iter().map(|(name, (topic, _))| (topic.hash(), name.clone())).collect();
        Self { by_name, by_hash }
    }

    /// A topic and the most bytes of a message on it.
    pub(crate) fn get(&self, name: &str) -> Option<&(IdentTopic, usize)> {
        self.by_name.get(name)
    }

    pub(crate) fn name(&self, hash: &TopicHash) -> Option<&str> {
        self.by_hash.get(hash).map(String::as_str)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &(IdentTopic, usize)> {
        self.by_name.values()
    }
}

/// The gossip of a node: it hears of no topics but its own.
pub(crate) type Behaviour = gossipsub::Behaviour<OwnTopics, WhitelistSubscriptionFilter>;

/// Refuses messages on topics that the node did not join. The library would keep them beside those that wait for a
/// verdict, and nobody would ever give one: a stranger could fill the memory with them.
#[derive(Clone, Debug)]
pub(crate) struct OwnTopics(Topics);

impl DataTransform for OwnTopics {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<Message> {
        if self.0.name(&raw.topic).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message on a topic that nobody joined"));
        }
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

fn settings(config: &NetworkConfig, topics: &Topics) -> Result<gossipsub::Config, String> {
    let largest = topics.all().map(|(_, limit)| *limit).max().unwrap_or_default();
    let mut builder = ConfigBuilder::default();
    builder
        .protocol_id_prefix(format!("/podl/{}/gossip", chain_tag(&config.chain)))
        .heartbeat_interval(HEARTBEAT)
        // The mesh forms at once: a testnet's first block is due within seconds.
        .heartbeat_initial_delay(Duration::from_millis(100))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(|m| GossipId::of(&m.topic, &m.data).message_id())
        .duplicate_cache_time(DUPLICATES_FOR)
        .history_length(HISTORY_BEATS)
        .history_gossip(6)
        // Networks of 2..8 nodes become full meshes; large ones forward to 8 each.
        .mesh_n(8)
        .mesh_n_low(5)
        .mesh_n_high(12)
        .mesh_outbound_min(2)
        // Blocks of megabytes go to the mesh only; publishing fills up from all peers while the mesh is not formed.
        .flood_publish(false)
        .max_transmit_size(largest + GOSSIP_OVERHEAD_BYTES + READ_AHEAD_BYTES)
        // A peer that cannot take a message in this time gets it by gossip, if at all.
        .publish_queue_duration(Duration::from_secs(10))
        .forward_queue_duration(Duration::from_secs(5))
        .connection_handler_queue_len(1024)
        .max_publish_messages(1000)
        // Peers leave and come back within seconds on a testnet; a long backoff would keep them out of the mesh.
        .prune_backoff(Duration::from_secs(10))
        .unsubscribe_backoff(Duration::from_secs(5));
    for (topic, limit) in topics.all() {
        builder.max_transmit_size_for_topic(limit + GOSSIP_OVERHEAD_BYTES, topic.hash());
    }
    builder.build().map_err(|e| e.to_string())
}

/// Points of a peer in one topic: slowly for being there, for news, and much against invalid messages. Missing deliveries
/// cost nothing: most topics are silent for most of an interval.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.02,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(600)),
        first_message_deliveries_cap: 20.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // The counter is squared: the sixth bad message within minutes is too many. The peer book is a little stricter on
        // those that the owner rejects; here also count those that gossip itself refuses.
        invalid_message_deliveries_weight: -6.0,
        invalid_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(600)),
        ..TopicScoreParams::default()
    }
}

fn score(topics: &Topics) -> (PeerScoreParams, PeerScoreThresholds) {
    let params = PeerScoreParams {
        topics: topics.all().map(|(topic, _)| (topic.hash(), topic_score())).collect(),
        topic_score_cap: 60.0,
        // Half of the peer book's points: together with invalid messages, which count in both, a peer reaches the book's
        // ban before the graylist.
        app_specific_weight: 0.5,
        // The gate limits connections per address; here it would punish test networks on one machine.
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -5.0,
        behaviour_penalty_threshold: 4.0,
        behaviour_penalty_decay: gossipsub::score_parameter_decay(Duration::from_secs(60)),
        // A slow line is no offence.
        slow_peer_weight: 0.0,
        retain_score: Duration::from_secs(600),
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: GOSSIP_THRESHOLD,
        publish_threshold: PUBLISH_THRESHOLD,
        graylist_threshold: GRAYLIST_THRESHOLD,
        accept_px_threshold: f64::MAX,
        opportunistic_graft_threshold: 1.0,
    };
    (params, thresholds)
}

/// The gossip behaviour with all topics joined.
pub(crate) fn behaviour(config: &NetworkConfig, topics: &Topics, keypair: &Keypair) -> Result<Behaviour, String> {
    let authenticity = MessageAuthenticity::Signed(keypair.clone());
    // Subscriptions to other topics are not remembered: their names are as many and as long as a peer likes.
    let own = WhitelistSubscriptionFilter(topics.by_hash.keys().cloned().collect());
    let refuse = OwnTopics(topics.clone());
    let mut gossip =
        Behaviour::new_with_subscription_filter_and_transform(authenticity, settings(config, topics)?, own, refuse)?;
    let (params, thresholds) = score(topics);
    gossip.with_peer_score(params, thresholds)?;
    for (topic, _) in topics.all() {
        gossip.subscribe(topic).map_err(|e| e.to_string())?;
    }
    Ok(gossip)
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use podl_chain_spec::Hash32;

    fn config(chain: u8) -> NetworkConfig {
        let mut config = NetworkConfig::new(Hash32([chain; 32]), Keypair::generate_ed25519());
        config.topics = vec![
            TopicConfig { name: "votes".into(), limit_bytes: 512 },
            TopicConfig { name: "blocks".into(), limit_bytes: 3 << 20 },
        ];
        config
    }

    #[test]
    fn settings_and_scores_are_valid_and_topics_carry_the_chain() {
        let (a, b) = (config(0xab), config(0xcd));
        let topics = Topics::new(&a);
        let built = settings(&a, &topics).unwrap();
        let votes = topics.get("votes").unwrap().0.hash();
        assert_eq!(votes.as_str(), "podl/abababababababab/votes");
        assert_ne!(votes, Topics::new(&b).get("votes").unwrap().0.hash());
        assert_eq!(built.max_transmit_size_for_topic(&votes), 512 + GOSSIP_OVERHEAD_BYTES);
        let (params, thresholds) = score(&topics);
        params.validate().unwrap();
        thresholds.validate().unwrap();
        assert!(behaviour(&a, &topics, &a.keypair).is_ok());
    }

    #[test]
    fn ids_follow_topic_and_content() {
        let id = |topic: &str, bytes: &[u8]| GossipId::of(&TopicHash::from_raw(topic), bytes);
        assert_eq!(id("a", b"bc"), id("a", b"bc"));
        assert_ne!(id("a", b"bc"), id("ab", b"c"));
        assert_eq!(GossipId::from_message_id(&id("a", b"x").message_id()), Some(id("a", b"x")));
        assert_eq!(GossipId::from_message_id(&MessageId::new(b"short")), None);
    }
}
