//! What is known of each peer: its connections, whether its chain is ours, and what it did wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::config::NetworkConfig;
use crate::protocol::Protocol;
use crate::rate::Bucket;

/// At this many points a peer is banned.
pub(crate) const BAN_POINTS: u32 = 100;
/// Time that takes one point away: a ban's worth is forgiven in ten minutes.
const POINT_FORGIVEN_IN: Duration = Duration::from_secs(6);
/// Peers remembered at most, so that one cannot shed its points by reconnecting, nor fill memory with names.
const MAX_REMEMBERED: usize = 2048;

/// What a peer did wrong. Points say how often until it is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It passed on a message that no honest node would have passed on.
    InvalidMessage,
    /// It sent bytes that break a protocol: too long, truncated, not decodable.
    Malformed,
    /// It sends more than its rate.
    Flood,
    /// It sent a piece of a blob that its root refutes.
    BadBlob,
    /// It let a request wait that it had promised to answer.
    Stall,
    /// It promised what it does not have.
    FalsePromise,
}

impl Misbehaviour {
    pub(crate) const fn points(self) -> u32 {
        match self {
            Self::InvalidMessage | Self::Malformed => 20,
            Self::Flood => 2,
            Self::BadBlob => 50,
            Self::Stall => 10,
            Self::FalsePromise => 25,
        }
    }
}

impl std::fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InvalidMessage => "invalid message",
            Self::Malformed => "malformed bytes",
            Self::Flood => "flood",
            Self::BadBlob => "false piece of a blob",
            Self::Stall => "stalled request",
            Self::FalsePromise => "false promise",
        })
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) address: Multiaddr,
    pub(crate) outbound: bool,
    pub(crate) since: Instant,
    pub(crate) failed_pings: u32,
}

/// What to do with one more message of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Take it.
    Take,
    /// Drop it without blame.
    Drop,
    /// Drop it and count it against the peer.
    Flood,
}

/// A rate beyond which is dropped, and a much higher one beyond which is punished.
#[derive(Clone, Debug)]
struct Allowance {
    taken: Bucket,
    tolerated: Bucket,
}

/// Messages a second, at once, and how many times that is tolerated.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_s: u32,
    burst: u32,
    factor: u32,
}

impl Allowance {
    fn new(rate: Rate, now: Instant) -> Self {
        let (per_s, burst, factor) = (u64::from(rate.per_s), u64::from(rate.burst), u64::from(rate.factor.max(1)));
        Self { taken: Bucket::new(per_s, burst, now), tolerated: Bucket::new(per_s * factor, burst * factor, now) }
    }

    fn admit(&mut self, now: Instant) -> Admission {
        let tolerated = self.tolerated.take(1, now).is_ok();
        match self.taken.take(1, now) {
            Ok(()) => Admission::Take,
            Err(_) if tolerated => Admission::Drop,
            Err(_) => Admission::Flood,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) links: Vec<Link>,
    /// It has shown to be on this chain.
    pub(crate) confirmed: bool,
    /// What it calls itself, cut and cleaned.
    pub(crate) agent: String,
    /// Where it says that it listens, as the routing table has it.
    pub(crate) addresses: Vec<Multiaddr>,
    points: u32,
    points_at: Instant,
    gossip: Allowance,
    requests: [Allowance; Protocol::ALL.len()],
}

/// All peers, connected or remembered.
#[derive(Debug)]
pub(crate) struct PeerBook {
    peers: BTreeMap<PeerId, Peer>,
    gossip: Rate,
    requests: [Rate; Protocol::ALL.len()],
}

impl PeerBook {
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        let factor = config.limits.flood_factor;
        let requests = Protocol::ALL.map(|protocol| {
            let limits = config.limits_of(protocol);
            Rate { per_s: limits.requests_per_s, burst: limits.requests_burst, factor }
        });
        let gossip = Rate { per_s: config.limits.gossip_per_s, burst: config.limits.gossip_burst, factor };
        Self { peers: BTreeMap::new(), gossip, requests }
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Peer> {
        self.peers.get(peer)
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(peer)
    }

    /// Connected peers of this chain.
    pub(crate) fn confirmed(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.peers.iter().filter(|(_, p)| p.confirmed)
    }

    /// Connected peers that have not said which chain they are on, though their time is over.
    pub(crate) fn overdue(&self, within: Duration, now: Instant) -> Vec<PeerId> {
        let late = |p: &Peer| p.links.first().is_some_and(|l| now.saturating_duration_since(l.since) > within);
        self.peers.iter().filter(|(_, p)| !p.confirmed && late(p)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn connected(&mut self, peer: PeerId, link: Link) {
        self.entry(peer).links.push(link);
    }

    /// Notes a closed connection; true when it was the last one of a confirmed peer.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, connection: ConnectionId) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        entry.links.retain(|link| link.id != connection);
        entry.links.is_empty() && std::mem::take(&mut entry.confirmed)
    }

    /// Marks a connected peer as one of this chain; true when that is new.
    pub(crate) fn confirm(&mut self, peer: &PeerId) -> bool {
        match self.peers.get_mut(peer) {
            Some(entry) if !entry.links.is_empty() => !std::mem::replace(&mut entry.confirmed, true),
            _ => false,
        }
    }

    /// Adds points; true when the peer has earned a ban. Its points start anew after it.
    pub(crate) fn penalise(&mut self, peer: PeerId, what: Misbehaviour, now: Instant) -> bool {
        let entry = self.entry(peer);
        entry.forgive(now);
        entry.points = entry.points.saturating_add(what.points());
        let banned = entry.points >= BAN_POINTS;
        if banned {
            entry.points = 0;
        }
        banned
    }

    /// Points of a peer now.
    pub(crate) fn points(&mut self, peer: &PeerId, now: Instant) -> u32 {
        self.peers.get_mut(peer).map_or(0, |entry| {
            entry.forgive(now);
            entry.points
        })
    }

    /// Whether one more gossiped message is within the peer's rate.
    pub(crate) fn admit_gossip(&mut self, peer: PeerId, now: Instant) -> Admission {
        self.entry(peer).gossip.admit(now)
    }

    /// Whether one more request is within the peer's rate.
    pub(crate) fn admit_request(&mut self, peer: PeerId, protocol: Protocol, now: Instant) -> Admission {
        self.entry(peer).requests[protocol as usize].admit(now)
    }

    fn entry(&mut self, peer: PeerId) -> &mut Peer {
        if self.peers.len() >= MAX_REMEMBERED && !self.peers.contains_key(&peer) {
            let idle = self.peers.iter().filter(|(_, p)| p.links.is_empty());
            // Whoever did least is forgotten first.
            if let Some(forgotten) = idle.min_by_key(|(_, p)| p.points).map(|(id, _)| *id) {
                self.peers.remove(&forgotten);
            }
        }
        let (gossip, requests) = (self.gossip, self.requests);
        self.peers.entry(peer).or_insert_with(|| {
            let now = Instant::now();
            Peer {
                links: Vec::new(),
                confirmed: false,
                agent: String::new(),
                addresses: Vec::new(),
                points: 0,
                points_at: now,
                gossip: Allowance::new(gossip, now),
                requests: requests.map(|rate| Allowance::new(rate, now)),
            }
        })
    }
}

impl Peer {
    fn forgive(&mut self, now: Instant) {
        let steps = now.saturating_duration_since(self.points_at).as_secs() / POINT_FORGIVEN_IN.as_secs();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.points = self.points.saturating_sub(steps);
        self.points_at += POINT_FORGIVEN_IN.saturating_mul(steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;
    use podl_chain_spec::Hash32;

    fn book() -> PeerBook {
        PeerBook::new(&NetworkConfig::new(Hash32([1; 32]), Keypair::generate_ed25519()))
    }

    #[test]
    fn points_add_up_to_a_ban_and_are_forgiven_with_time() {
        let (mut book, peer, now) = (book(), PeerId::random(), Instant::now());
        assert!((0..4).all(|_| !book.penalise(peer, Misbehaviour::InvalidMessage, now)));
        assert_eq!(book.points(&peer, now), 80);
        assert!(book.penalise(peer, Misbehaviour::InvalidMessage, now));
        assert_eq!(book.points(&peer, now), 0);
        assert!(!book.penalise(peer, Misbehaviour::BadBlob, now));
        // The record is a little younger than the test's clock.
        assert!((30..=31).contains(&book.points(&peer, now + Duration::from_secs(120))));
        assert_eq!(book.points(&peer, now + Duration::from_secs(3600)), 0);
    }

    #[test]
    fn reconnecting_sheds_no_points_and_names_do_not_fill_memory() {
        let (mut book, peer, now) = (book(), PeerId::random(), Instant::now());
        book.penalise(peer, Misbehaviour::BadBlob, now);
        for _ in 0..2 * MAX_REMEMBERED {
            book.admit_gossip(PeerId::random(), now);
        }
        assert_eq!(book.peers.len(), MAX_REMEMBERED);
        assert_eq!(book.points(&peer, now), 50, "whoever did least is forgotten first");
    }

    #[test]
    fn beyond_its_rate_a_peer_is_ignored_and_far_beyond_it_punished() {
        let now = Instant::now();
        let mut allowance = Allowance::new(Rate { per_s: 1, burst: 3, factor: 2 }, now);
        let mut admitted = |seconds: u64| allowance.admit(now + Duration::from_secs(seconds));
        let first: Vec<Admission> = (0..7).map(|_| admitted(0)).collect();
        let expected = [[Admission::Take; 3], [Admission::Drop; 3]].concat();
        assert_eq!((&first[..6], first[6]), (expected.as_slice(), Admission::Flood));
        assert_eq!([admitted(1), admitted(1), admitted(1)], [Admission::Take, Admission::Drop, Admission::Flood]);
    }

    #[test]
    fn a_peer_counts_once_confirmed_until_its_last_connection_closes() {
        let (mut book, peer, now) = (book(), PeerId::random(), Instant::now());
        let link = |n| Link {
            id: ConnectionId::new_unchecked(n),
            address: Multiaddr::empty(),
            outbound: true,
            since: now,
            failed_pings: 0,
        };
        assert!(!book.confirm(&peer), "not connected");
        book.connected(peer, link(1));
        book.connected(peer, link(2));
        assert_eq!(book.overdue(Duration::from_secs(1), now + Duration::from_secs(2)), [peer]);
        assert!(book.confirm(&peer) && !book.confirm(&peer));
        assert!(book.overdue(Duration::ZERO, now + Duration::from_secs(2)).is_empty());
        assert!(!book.disconnected(&peer, ConnectionId::new_unchecked(1)));
        assert!(book.disconnected(&peer, ConnectionId::new_unchecked(2)));
        assert_eq!(book.confirmed().count(), 0);
    }
}
