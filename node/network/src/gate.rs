//! Who may connect: bans with an end, and how many connections one address may open.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};

/// Bans kept at most; the one that ends first makes room.
const MAX_BANS: usize = 4096;
/// Banned peers of one address after which the address itself is banned: peer ids cost nothing.
const BANS_PER_IP: usize = 3;

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("peer {0} is banned")]
    BannedPeer(PeerId),
    #[error("address {0} is banned")]
    BannedIp(IpAddr),
    #[error("address {ip} has {limit} connections already")]
    TooMany { ip: IpAddr, limit: usize },
}

#[derive(Clone, Debug)]
struct Ban {
    until: Instant,
    ip: Option<IpAddr>,
}

/// Behaviour that owns no protocol and only admits or refuses.
#[derive(Debug)]
pub(crate) struct Gate {
    per_ip: usize,
    inbound: HashMap<IpAddr, HashSet<ConnectionId>>,
    bans: BTreeMap<PeerId, Ban>,
    closing: VecDeque<PeerId>,
}

/// The address that counts: loopback and relayed connections have none, and a /64 of IPv6 is one household.
pub(crate) fn counted_ip(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        // The address in front is the relay's, which is not to blame for whom it carries.
        return None;
    }
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => IpAddr::V4(ip),
            None if ip.is_loopback() => return None,
            None => {
                let s = ip.segments();
                IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
            }
        },
        _ => return None,
    };
    (!ip.is_loopback()).then_some(ip)
}

impl Gate {
    pub(crate) fn new(per_ip: u32) -> Self {
        Self { per_ip: per_ip as usize, inbound: HashMap::new(), bans: BTreeMap::new(), closing: VecDeque::new() }
    }

    /// Refuses a peer for a while and closes its connections. A ban that lasts longer already is not shortened, nor does
    /// it forget the address: otherwise a light offence would wipe out a grave one.
    pub(crate) fn ban(&mut self, peer: PeerId, address: Option<&Multiaddr>, length: Duration) {
        let mut ban = Ban { until: Instant::now() + length, ip: address.and_then(counted_ip) };
        if let Some(before) = self.bans.get(&peer) {
            ban = Ban { until: ban.until.max(before.until), ip: ban.ip.or(before.ip) };
        } else if self.bans.len() >= MAX_BANS
            && let Some(first) = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(peer, _)| *peer)
        {
            self.bans.remove(&first);
        }
        self.bans.insert(peer, ban);
        if !self.closing.contains(&peer) {
            self.closing.push_back(peer);
        }
    }

    /// Whether a peer is refused now.
    pub(crate) fn is_banned(&self, peer: &PeerId) -> bool {
        self.bans.get(peer).is_some_and(|ban| ban.until > Instant::now())
    }

    /// Forgets bans that are over.
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        self.bans.retain(|_, ban| ban.until > now);
    }

    fn admit_peer(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        if self.is_banned(peer) { Err(ConnectionDenied::new(Refused::BannedPeer(*peer))) } else { Ok(()) }
    }

    fn admit_ip(&mut self, connection: ConnectionId, ip: IpAddr) -> Result<(), Refused> {
        let now = Instant::now();
        let banned = self.bans.values().filter(|ban| ban.ip == Some(ip) && ban.until > now).count();
        if banned >= BANS_PER_IP {
            return Err(Refused::BannedIp(ip));
        }
        let open = self.inbound.entry(ip).or_default();
        if open.len() >= self.per_ip {
            return Err(Refused::TooMany { ip, limit: self.per_ip });
        }
        open.insert(connection);
        Ok(())
    }

    fn release(&mut self, connection: ConnectionId, address: &Multiaddr) {
        if let Some(ip) = counted_ip(address)
            && let Some(open) = self.inbound.get_mut(&ip)
        {
            open.remove(&connection);
            if open.is_empty() {
                self.inbound.remove(&ip);
            }
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match counted_ip(remote) {
            Some(ip) => self.admit_ip(connection, ip).map_err(ConnectionDenied::new),
            None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_peer(&peer).map(|()| dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        peer.map_or(Ok(()), |peer| self.admit_peer(&peer)).map(|()| Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_peer(&peer).map(|()| dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) if closed.endpoint.is_listener() => {
                self.release(closed.connection_id, closed.endpoint.get_remote_address());
            }
            FromSwarm::ListenFailure(failure) => self.release(failure.connection_id, failure.send_back_addr),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // No waker: bans come from the task that drives the swarm, which polls again after each.
        match self.closing.pop_front() {
            Some(peer_id) => Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_exempt_and_households_count_as_one() {
        let ip = |text: &str| counted_ip(&text.parse().unwrap());
        assert_eq!(ip("/ip4/127.0.0.1/tcp/1"), None);
        assert_eq!(ip("/ip6/::1/tcp/1"), None);
        assert_eq!(ip("/ip6/::ffff:127.0.0.1/tcp/1"), None);
        assert_eq!(ip("/ip4/192.0.2.1/tcp/1"), ip("/ip4/192.0.2.1/udp/2/quic-v1"));
        assert_eq!(ip("/ip6/2001:db8:1:2::1/tcp/1"), ip("/ip6/2001:db8:1:2:ffff::9/tcp/1"));
        assert_ne!(ip("/ip6/2001:db8:1:2::1/tcp/1"), ip("/ip6/2001:db8:1:3::1/tcp/1"));
    }

    #[test]
    fn whoever_comes_through_a_relay_does_not_ban_the_relay() {
        let mut gate = Gate::new(8);
        let relay = PeerId::random();
        let (local, there): (Multiaddr, Multiaddr) =
            ("/ip4/0.0.0.0/tcp/1".parse().unwrap(), "/ip4/192.0.2.1/tcp/9".parse().unwrap());
        for _ in 0..BANS_PER_IP {
            let peer = PeerId::random();
            let through = format!("/ip4/192.0.2.1/tcp/9/p2p/{relay}/p2p-circuit/p2p/{peer}").parse().unwrap();
            gate.ban(peer, Some(&through), Duration::from_secs(60));
        }
        assert!(gate.handle_pending_inbound_connection(ConnectionId::new_unchecked(1), &local, &there).is_ok());
    }

    #[test]
    fn a_light_ban_does_not_wipe_out_a_grave_one() {
        let mut gate = Gate::new(8);
        let remote: Multiaddr = "/ip4/192.0.2.1/tcp/9".parse().unwrap();
        let peer = PeerId::random();
        gate.ban(peer, Some(&remote), Duration::from_secs(600));
        let grave = gate.bans[&peer].clone();
        gate.ban(peer, None, Duration::ZERO);
        assert!(gate.is_banned(&peer));
        assert_eq!((gate.bans[&peer].until, gate.bans[&peer].ip), (grave.until, grave.ip));
    }

    #[test]
    fn a_full_list_forgets_the_ban_that_ends_first_and_none_for_one_that_is_in_it() {
        let mut gate = Gate::new(8);
        let first = PeerId::random();
        gate.ban(first, None, Duration::from_secs(500));
        for _ in 1..MAX_BANS {
            gate.ban(PeerId::random(), None, Duration::from_secs(600));
        }
        let last = *gate.bans.keys().find(|peer| **peer != first).unwrap();
        gate.ban(last, None, Duration::from_secs(700));
        assert!(gate.is_banned(&first) && gate.bans.len() == MAX_BANS);
        gate.ban(PeerId::random(), None, Duration::from_secs(600));
        assert!(!gate.is_banned(&first) && gate.bans.len() == MAX_BANS);
    }

    #[test]
    fn one_address_opens_so_many_and_a_closed_one_makes_room() {
        let mut gate = Gate::new(2);
        let (local, remote): (Multiaddr, Multiaddr) =
            ("/ip4/0.0.0.0/tcp/1".parse().unwrap(), "/ip4/192.0.2.1/tcp/9".parse().unwrap());
        let id = ConnectionId::new_unchecked;
        assert!(gate.handle_pending_inbound_connection(id(1), &local, &remote).is_ok());
        assert!(gate.handle_pending_inbound_connection(id(2), &local, &remote).is_ok());
        let refused = gate.handle_pending_inbound_connection(id(3), &local, &remote).unwrap_err();
        assert!(matches!(refused.downcast_ref::<Refused>(), Some(Refused::TooMany { limit: 2, .. })));
        gate.release(id(1), &remote);
        assert!(gate.handle_pending_inbound_connection(id(3), &local, &remote).is_ok());
        gate.release(id(2), &remote);
        gate.release(id(3), &remote);
        assert!(gate.inbound.is_empty(), "nothing is kept of closed connections");
    }

    #[test]
    fn bans_end_and_three_of_one_address_ban_it() {
        let mut gate = Gate::new(8);
        let (local, remote): (Multiaddr, Multiaddr) =
            ("/ip4/0.0.0.0/tcp/1".parse().unwrap(), "/ip4/192.0.2.1/tcp/9".parse().unwrap());
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        gate.ban(peers[0], Some(&remote), Duration::from_secs(60));
        gate.ban(peers[1], Some(&remote), Duration::from_secs(60));
        let id = ConnectionId::new_unchecked(1);
        assert!(gate.handle_pending_inbound_connection(id, &local, &remote).is_ok());
        assert!(gate.handle_established_inbound_connection(id, peers[0], &local, &remote).is_err());
        assert!(gate.handle_established_inbound_connection(id, peers[2], &local, &remote).is_ok());
        gate.ban(peers[2], Some(&remote), Duration::ZERO);
        assert!(!gate.is_banned(&peers[2]), "a ban of no length is over");
        gate.ban(peers[2], Some(&remote), Duration::from_secs(60));
        let refused = gate.handle_pending_inbound_connection(id, &local, &remote).unwrap_err();
        assert!(matches!(refused.downcast_ref::<Refused>(), Some(Refused::BannedIp(_))));
    }
}
