//! What peers say of where they are, how they kept their word, and whom to ask next.
//!
//! A claim costs nothing, so it decides nothing but whether a peer may be asked. Who is asked first follows from what
//! peers did: one that brought blocks before one that did not, one that failed last of all.

use std::collections::BTreeMap;

use podl_consensus::types::Height;

use super::Status;

/// A peer that failed is left alone for this long, in milliseconds.
const PAUSE_MS: u64 = 10_000;
/// Failures after which a peer's promise counts as false, and again as many later.
const FAILURES_BEFORE_BLAME: u32 = 3;
/// Peers that left after failing, remembered so that coming back is no fresh start.
const REMEMBERED: usize = 256;

#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Nothing when it claimed what cannot be, or was caught.
    status: Option<Status>,
    paused_until_ms: u64,
    /// Since it last brought blocks that were imported.
    failures: u32,
    /// Whether its last range was imported.
    is_good: bool,
    /// When it was last asked, counted in requests; for a newcomer when it came, so that it queues behind the others.
    asked: u64,
    /// Order of arrival, since names are free to choose.
    arrived: u64,
    /// Where its next range begins, when that is not above the head.
    cursor: Option<Height>,
    /// Ranges in a row that did not connect.
    strays: u32,
}

/// Where this node stands, as far as choosing a peer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub head: Height,
    pub finalised: Height,
}

impl Peer {
    /// The first height of the range to ask it for, if it claims to have what this node lacks.
    fn from(&self, own: Own) -> Option<Height> {
        let status = self.status?;
        let (head, finalised) = (status.head.height, status.finalised.height);
        let has_more = head > own.head || finalised > own.finalised;
        let above = if head > own.head { own.head } else { own.finalised };
        let from = self.cursor.unwrap_or(above.saturating_add(1));
        (has_more && from <= head).then_some(from)
    }

    fn rank(&self) -> (u32, bool, u64, u64) {
        (self.failures, !self.is_good, self.asked, self.arrived)
    }
}

/// The peers that speak the sync protocol.
#[derive(Debug)]
pub(super) struct Peers<P> {
    peers: BTreeMap<P, Peer>,
    grudges: BTreeMap<P, u32>,
    asked: u64,
    arrived: u64,
}

impl<P: Ord + Clone> Peers<P> {
    pub fn new() -> Self {
        Self { peers: BTreeMap::new(), grudges: BTreeMap::new(), asked: 0, arrived: 0 }
    }

    pub fn contains(&self, peer: &P) -> bool {
        self.peers.contains_key(peer)
    }

    /// Notes what a peer claims; `None` when that cannot be.
    pub fn claim(&mut self, peer: P, status: Option<Status>, own: Own) {
        let failures = self.grudges.remove(&peer);
        let (asked, arrived) = (self.asked, self.arrived);
        let known = self.peers.entry(peer).or_insert_with(|| Peer { asked, arrived, ..Peer::default() });
        self.arrived = arrived.saturating_add(1);
        known.failures = known.failures.max(failures.unwrap_or(0));
        known.status = status;
        if status.is_none_or(|status| status.head.height <= own.head) {
            known.cursor = None;
        }
    }

    pub fn remove(&mut self, peer: &P) {
        let Some(known) = self.peers.remove(peer).filter(|known| known.failures > 0) else { return };
        if self.grudges.len() >= REMEMBERED {
            let least = self.grudges.iter().min_by_key(|(_, failures)| **failures).map(|(peer, _)| peer.clone());
            least.and_then(|peer| self.grudges.remove(&peer));
        }
        self.grudges.insert(peer.clone(), known.failures);
    }

    /// Heights that peers claim.
    pub fn heights(&self) -> impl Iterator<Item = (&P, Height)> {
        self.peers.iter().filter_map(|(peer, known)| Some((peer, known.status?.head.height)))
    }

    /// The peer to ask for a range, and from which height on; none of `busy`.
    pub fn for_range(&self, now_ms: u64, own: Own, busy: &[&P]) -> Option<(P, Height)> {
        let free = self.peers.iter().filter(|(peer, known)| known.paused_until_ms <= now_ms && !busy.contains(peer));
        let ahead = free.filter_map(|(peer, known)| Some((peer, known, known.from(own)?)));
        ahead.min_by_key(|(_, known, _)| known.rank()).map(|(peer, _, from)| (peer.clone(), from))
    }

    /// The peer to ask for a block: of those who named it and of the others in turn; none of `tried`.
    pub fn for_block(&self, named_by: &[P], tried: &[P]) -> Option<P> {
        let fresh = |peer: &&P| !tried.contains(peer);
        let named = named_by.iter().filter(|peer| self.contains(peer)).find(fresh);
        let others = self.peers.iter().filter(|(peer, _)| fresh(peer)).min_by_key(|(_, known)| known.rank());
        let other = others.map(|(peer, _)| peer);
        // In turn: whoever names a block first need not have it, or may keep the node waiting.
        let turn = if tried.len().is_multiple_of(2) { named.or(other) } else { other.or(named) };
        turn.cloned()
    }

    /// Notes that a peer is asked for something.
    pub fn ask(&mut self, peer: &P) {
        self.asked += 1;
        if let Some(known) = self.peers.get_mut(peer) {
            known.asked = self.asked;
        }
    }

    /// A peer's range was imported: only that makes its failures forgotten.
    pub fn brought_blocks(&mut self, peer: &P) {
        if let Some(known) = self.peers.get_mut(peer) {
            (known.failures, known.is_good, known.cursor, known.strays) = (0, true, None, 0);
        }
    }

    /// A peer's range was known already: the next one begins after it.
    pub fn brought_known(&mut self, peer: &P, last: Height) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.cursor = Some(last.saturating_add(1));
        }
    }

    /// A peer's range did not connect. It may be on another branch above the last final block, from where it is asked next;
    /// whether that was one time too many.
    pub fn did_not_connect(&mut self, peer: &P, finalised: Height) -> bool {
        let Some(known) = self.peers.get_mut(peer) else { return false };
        known.strays = known.strays.saturating_add(1);
        known.cursor = Some(finalised.saturating_add(1));
        known.strays.is_multiple_of(2)
    }

    /// Leaves a peer alone for a while and asks others first, without blame.
    pub fn pause(&mut self, now_ms: u64, peer: &P) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.paused_until_ms = now_ms.saturating_add(PAUSE_MS);
            known.is_good = false;
        }
    }

    /// Notes a broken promise. Whether it was one too many; then what the peer claimed counts for nothing.
    pub fn failed(&mut self, now_ms: u64, peer: &P) -> bool {
        self.pause(now_ms, peer);
        let Some(known) = self.peers.get_mut(peer) else { return false };
        known.failures = known.failures.saturating_add(1);
        let too_often = known.failures.is_multiple_of(FAILURES_BEFORE_BLAME);
        if too_often {
            known.status = None;
        }
        too_often
    }

    /// A peer was caught: what it claimed counts for nothing.
    pub fn caught(&mut self, now_ms: u64, peer: &P) {
        self.failed(now_ms, peer);
        if let Some(known) = self.peers.get_mut(peer) {
            known.status = None;
        }
    }
}
