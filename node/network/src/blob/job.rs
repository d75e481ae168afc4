//! One blob's fetch: who has which pieces, what was asked of whom, and who broke a promise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use tokio::sync::mpsc;

use super::fetch::{FETCHES, Fetcher, blocking};
use super::geometry::{PIECE_BYTES, PieceSet, pieces};
use super::partial::{Partial, hex};
use super::protocol::{BlobRequest, BlobResponse, decode, encode};
use crate::config::BlobConfig;
use crate::error::{BlobError, FetchError, RequestError};
use crate::handle::NetworkHandle;
use crate::peers::Misbehaviour;
use crate::protocol::Protocol;

/// Pieces asked of one peer at a time: 1 MiB under way fills a home line of 100 Mbit/s at 80 ms.
const WINDOW: usize = 4;
/// Peers asked what they have, at a time.
const ASKING: usize = 16;
/// A peer that does not have the blob is asked again after this, doubled each time.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The longest wait before it is asked again.
const ASK_AGAIN_LAST: Duration = Duration::from_secs(16);
/// When nothing else is left, a piece that takes longer than this is asked of a second peer.
const SECOND_AFTER: Duration = Duration::from_secs(1);
/// Failures in a row after which a peer is left out of this fetch.
const STRIKES: u32 = 2;
/// Refusals in a row after which a peer is asked anew what it has.
const REFUSALS: u32 = 10;
/// How often pauses and deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the list of connected peers is read.
const PEERS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum State {
    /// Not asked yet, or to be asked again.
    Unknown,
    Asked,
    Has(Option<PieceSet>),
    /// It lied or stalled.
    Out,
}

#[derive(Debug)]
struct Source {
    state: State,
    not_before: Instant,
    wait: Duration,
    in_flight: BTreeMap<u32, Instant>,
    strikes: u32,
    refusals: u32,
    delivered: u32,
}

pub(crate) enum Outcome {
    Have { peer: PeerId, answer: Result<Vec<u8>, RequestError> },
    Piece { peer: PeerId, piece: u32, answer: Result<Vec<u8>, RequestError> },
}

pub(crate) struct Job<'a> {
    handle: NetworkHandle,
    fetcher: &'a Fetcher,
    partial: Arc<Partial>,
    /// Pieces that are neither here nor under way.
    wanted: BTreeSet<u32>,
    sources: BTreeMap<PeerId, Source>,
    /// Peers that the caller named, connected or not.
    named: BTreeSet<PeerId>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    began_at: Instant,
    progress_at: Instant,
    /// Pieces that came by this fetch.
    came: u32,
}

impl<'a> Job<'a> {
    pub(crate) fn new(
        handle: NetworkHandle,
        fetcher: &'a Fetcher,
        partial: Arc<Partial>,
        providers: &[PeerId],
        // Unbounded, and bounded all the same: one outcome for each request under way.
        outcomes: mpsc::UnboundedSender<Outcome>,
    ) -> Self {
        let wanted = partial.here().missing().collect();
        let now = Instant::now();
        let sources = providers.iter().map(|peer| (*peer, Source::new(now))).collect();
        let named = providers.iter().copied().collect();
        Self { handle, fetcher, partial, wanted, sources, named, outcomes, began_at: now, progress_at: now, came: 0 }
    }

    pub(crate) async fn run(mut self, mut incoming: mpsc::UnboundedReceiver<Outcome>) -> Result<(), FetchError> {
        let mut tick = tokio::time::interval(TICK);
        let mut peers_at = Instant::now();
        while !self.partial.here().is_full() {
            if Instant::now() >= peers_at {
                self.meet_peers().await?;
                peers_at = Instant::now() + PEERS_EVERY;
            }
            self.ask();
            self.assign();
            tokio::select! {
                // The sender is this job's own, so that the channel never closes.
                Some(outcome) = incoming.recv() => self.take(outcome).await?,
                _ = tick.tick() => self.check_idle()?,
            }
        }
        self.blame_silent();
        let (store, partial) = (Arc::clone(self.fetcher.store()), Arc::clone(&self.partial));
        match blocking(move || store.finish(&partial)).await? {
            // Somebody stored the same blob meanwhile.
            Err(BlobError::Missing(_)) if self.fetcher.store().contains(&self.partial.root()) => Ok(()),
            done => Ok(done?),
        }
    }

    async fn meet_peers(&mut self) -> Result<(), FetchError> {
        let peers = self.handle.peers().await.map_err(|_| FetchError::Closed)?;
        meet(&mut self.sources, &self.named, peers.into_iter().map(|info| info.peer).collect(), Instant::now());
        Ok(())
    }

    fn send(&self, peer: PeerId, request: &BlobRequest, outcome: impl FnOnce(Answer) -> Outcome + Send + 'static) {
        let (handle, bytes, outcomes) = (self.handle.clone(), encode(request), self.outcomes.clone());
        let within = self.fetcher.config.piece_timeout;
        tokio::spawn(async move {
            let asked = handle.request(peer, Protocol::Blob, bytes);
            let answer = tokio::time::timeout(within, asked).await.unwrap_or(Err(RequestError::Timeout(peer)));
            // An error means that the fetch is over.
            let _over = outcomes.send(outcome(answer));
        });
    }

    /// Asks those of whom it is unknown what they have.
    fn ask(&mut self) {
        let now = Instant::now();
        // A peer that is fetching the blob too gains pieces all the time.
        for source in self.sources.values_mut() {
            if let State::Has(Some(set)) = &source.state
                && source.in_flight.is_empty()
                && !self.wanted.iter().any(|piece| set.contains(*piece))
            {
                (source.state, source.not_before) = (State::Unknown, now + ASK_AGAIN);
            }
        }
        let asking = self.sources.values().filter(|s| matches!(s.state, State::Asked)).count();
        let due: Vec<PeerId> = self
            .sources
            .iter()
            .filter(|(_, s)| matches!(s.state, State::Unknown) && s.not_before <= now)
            .map(|(peer, _)| *peer)
            .take(ASKING.saturating_sub(asking))
            .collect();
        for peer in due {
            if let Some(source) = self.sources.get_mut(&peer) {
                source.state = State::Asked;
            }
            let root = self.partial.root().0;
            self.send(peer, &BlobRequest::Have { root }, move |answer| Outcome::Have { peer, answer });
        }
    }

    /// Asks for pieces, the least busy peers first.
    fn assign(&mut self) {
        while let Some((peer, piece)) = self.next_request() {
            if !self.fetcher.admits(PIECE_BYTES.min(self.partial.bytes())) {
                return;
            }
            self.wanted.remove(&piece);
            if let Some(source) = self.sources.get_mut(&peer) {
                source.in_flight.insert(piece, Instant::now());
            }
            let request = BlobRequest::Piece { root: self.partial.root().0, bytes: self.partial.bytes(), piece };
            self.send(peer, &request, move |answer| Outcome::Piece { peer, piece, answer });
        }
    }

    fn next_request(&self) -> Option<(PeerId, u32)> {
        let now = Instant::now();
        let mut free: Vec<(&PeerId, &Source)> = self
            .sources
            .iter()
            .filter(|(_, s)| matches!(s.state, State::Has(_)) && s.in_flight.len() < WINDOW && s.not_before <= now)
            .collect();
        free.sort_by_key(|(_, s)| s.in_flight.len());
        for (peer, source) in &free {
            if let Some(piece) = self.wanted.iter().find(|piece| source.has(**piece)) {
                return Some((**peer, *piece));
            }
        }
        // Nothing is left to ask for: do not wait for the slowest.
        let late = |since: &Instant| now.saturating_duration_since(*since) > SECOND_AFTER;
        let slow: BTreeSet<u32> = self
            .sources
            .values()
            .flat_map(|s| s.in_flight.iter().filter(|(_, since)| late(since)).map(|(piece, _)| *piece))
            .collect();
        let askers = |piece: u32| self.sources.values().filter(|s| s.in_flight.contains_key(&piece)).count();
        free.iter().find_map(|(peer, source)| {
            let open = |piece: &&u32| source.has(**piece) && !source.in_flight.contains_key(*piece);
            slow.iter().filter(open).find(|piece| askers(**piece) < 2).map(|piece| (**peer, *piece))
        })
    }

    async fn take(&mut self, outcome: Outcome) -> Result<(), FetchError> {
        match outcome {
            Outcome::Have { peer, answer } => {
                let bytes = self.partial.bytes();
                let Some(source) = self.sources.get_mut(&peer) else { return Ok(()) };
                match answer.map(|bytes| decode(&bytes)) {
                    Ok(Ok(BlobResponse::Whole { bytes: theirs })) if theirs == bytes => source.has_now(None),
                    Ok(Ok(BlobResponse::Partial { bytes: theirs, pieces: bits })) if theirs == bytes => {
                        match PieceSet::from_bits(bits, pieces(bytes)) {
                            Some(set) => source.has_now(Some(set)),
                            None => self.out(peer, Misbehaviour::Malformed, "map of pieces"),
                        }
                    }
                    Ok(Err(reason)) => self.out(peer, Misbehaviour::Malformed, &reason),
                    // Another length may be the caller's error as well as the peer's: it only is no source.
                    Ok(Ok(_)) | Err(_) => source.later(),
                }
                Ok(())
            }
            Outcome::Piece { peer, piece, answer } => {
                if let Some(source) = self.sources.get_mut(&peer) {
                    source.in_flight.remove(&piece);
                }
                let kept = self.take_piece(peer, piece, answer).await?;
                let under_way = self.sources.values().any(|s| s.in_flight.contains_key(&piece));
                if !kept && !under_way && !self.partial.here().contains(piece) {
                    self.wanted.insert(piece);
                }
                Ok(())
            }
        }
    }

    /// Whether the piece is here now.
    async fn take_piece(&mut self, peer: PeerId, piece: u32, answer: Answer) -> Result<bool, FetchError> {
        match answer.map(|bytes| decode(&bytes)) {
            Ok(Ok(BlobResponse::Piece(encoded))) => {
                let partial = Arc::clone(&self.partial);
                match blocking(move || partial.write(piece, &encoded)).await? {
                    Ok(()) => {
                        self.progress_at = Instant::now();
                        self.came = self.came.saturating_add(1);
                        if let Some(source) = self.sources.get_mut(&peer) {
                            (source.strikes, source.refusals) = (0, 0);
                            source.delivered += 1;
                        }
                        return Ok(true);
                    }
                    Err(BlobError::BadPiece { reason, .. }) => self.out(peer, Misbehaviour::BadBlob, &reason),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(Ok(BlobResponse::Busy { retry_ms })) => {
                let wait = Duration::from_millis(u64::from(retry_ms)).clamp(TICK, ASK_AGAIN_LAST);
                self.pause(peer, wait);
            }
            Ok(Ok(BlobResponse::Missing)) => {
                if let Some(source) = self.sources.get_mut(&peer) {
                    source.later();
                }
            }
            Ok(Ok(_)) => self.out(peer, Misbehaviour::Malformed, "answer to another question"),
            Ok(Err(reason)) => self.out(peer, Misbehaviour::Malformed, &reason),
            Err(RequestError::Timeout(_)) => self.strike(peer),
            Err(RequestError::Busy) => self.pause(peer, TICK),
            Err(RequestError::Closed) => return Err(FetchError::Closed),
            Err(_) => self.refused(peer),
        }
        Ok(false)
    }

    fn pause(&mut self, peer: PeerId, wait: Duration) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.not_before = Instant::now() + wait;
        }
    }

    fn refused(&mut self, peer: PeerId) {
        self.pause(peer, 2 * TICK);
        if let Some(source) = self.sources.get_mut(&peer) {
            source.refusals += 1;
            if source.refusals >= REFUSALS {
                source.later();
            }
        }
    }

    fn strike(&mut self, peer: PeerId) {
        self.penalise(peer, Misbehaviour::Stall, "promised piece of a blob");
        if let Some(source) = self.sources.get_mut(&peer) {
            source.strikes += 1;
            if source.strikes >= STRIKES {
                source.state = State::Out;
            }
        }
    }

    fn out(&mut self, peer: PeerId, what: Misbehaviour, why: &str) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.state = State::Out;
        }
        self.penalise(peer, what, why);
    }

    fn penalise(&self, peer: PeerId, what: Misbehaviour, why: &str) {
        let why = format!("blob {}: {why}", hex(&self.partial.root()));
        if let Err(error) = self.handle.penalise(peer, what, why) {
            tracing::debug!(%peer, %error, "misbehaviour not counted");
        }
    }

    /// Others delivered what these had promised and let wait.
    fn blame_silent(&self) {
        let now = Instant::now();
        for (peer, source) in &self.sources {
            let late = |since: &Instant| now.saturating_duration_since(*since) > SECOND_AFTER;
            if source.delivered == 0 && source.in_flight.values().any(late) {
                self.penalise(*peer, Misbehaviour::Stall, "promised piece of a blob");
            }
        }
    }

    fn check_idle(&self) -> Result<(), FetchError> {
        let (config, idle, elapsed) = (&self.fetcher.config, self.progress_at.elapsed(), self.began_at.elapsed());
        let told = || (hex(&self.partial.root()), self.partial.here().count(), pieces(self.partial.bytes()));
        if idle > config.idle_timeout {
            let (root, have, pieces) = told();
            return Err(FetchError::NoProvider { root, idle_s: idle.as_secs(), have, pieces });
        }
        if is_too_slow(config, elapsed, self.came) {
            let (root, have, pieces) = told();
            return Err(FetchError::TooSlow { root, elapsed_s: elapsed.as_secs(), have, pieces });
        }
        Ok(())
    }
}

/// Whether so many pieces in that time are fewer than a fetch must bring. The time that it may be idle is granted first,
/// and nobody is blamed for what this node's own rate holds back.
fn is_too_slow(config: &BlobConfig, elapsed: Duration, came: u32) -> bool {
    let least = match config.fetch_bytes_per_s {
        0 => config.least_bytes_per_s,
        own => config.least_bytes_per_s.min(own / (2 * FETCHES as u64)),
    };
    let due = elapsed.saturating_sub(config.idle_timeout).as_secs().saturating_mul(least);
    u64::from(came).saturating_mul(PIECE_BYTES) < due
}

type Answer = Result<Vec<u8>, RequestError>;

/// Adds the connected peers to the sources and forgets those that are gone: over a long fetch peers without number may
/// come and go. What was asked of one is waited for.
fn meet(sources: &mut BTreeMap<PeerId, Source>, named: &BTreeSet<PeerId>, connected: BTreeSet<PeerId>, now: Instant) {
    sources.retain(|peer, source| {
        connected.contains(peer) || named.contains(peer) || matches!(source.state, State::Asked) || source.is_busy()
    });
    for peer in connected {
        sources.entry(peer).or_insert_with(|| Source::new(now));
    }
}

impl Source {
    fn new(now: Instant) -> Self {
        Self {
            state: State::Unknown,
            not_before: now,
            wait: ASK_AGAIN,
            in_flight: BTreeMap::new(),
            strikes: 0,
            refusals: 0,
            delivered: 0,
        }
    }

    fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    fn has(&self, piece: u32) -> bool {
        match &self.state {
            State::Has(None) => true,
            State::Has(Some(set)) => set.contains(piece),
            _ => false,
        }
    }

    fn has_now(&mut self, set: Option<PieceSet>) {
        (self.state, self.refusals, self.wait) = (State::Has(set), 0, ASK_AGAIN);
    }

    fn later(&mut self) {
        self.state = State::Unknown;
        self.not_before = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(ASK_AGAIN_LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_come_and_go_are_forgotten_and_those_that_owe_an_answer_are_not() {
        let now = Instant::now();
        let [named, owing, asked, staying] = [(); 4].map(|()| PeerId::random());
        let mut sources = BTreeMap::new();
        let named_ones = BTreeSet::from([named]);
        meet(&mut sources, &named_ones, BTreeSet::from([named, owing, asked, staying]), now);
        sources.get_mut(&owing).unwrap().in_flight.insert(0, now);
        sources.get_mut(&asked).unwrap().state = State::Asked;
        sources.get_mut(&staying).unwrap().state = State::Out;
        for _ in 0..1000 {
            meet(&mut sources, &named_ones, BTreeSet::from([PeerId::random(), staying]), now);
        }
        meet(&mut sources, &named_ones, BTreeSet::from([staying]), now);
        assert!(sources.keys().eq(&BTreeSet::from([named, owing, asked, staying])));
        assert!(matches!(sources[&staying].state, State::Out), "whoever lied is not asked again");
    }

    #[test]
    fn a_piece_now_and_then_does_not_keep_a_fetch_alive() {
        let config = BlobConfig::default();
        // One piece whenever the fetch would otherwise be idle for too long.
        let dripping = |minutes: u32| is_too_slow(&config, Duration::from_secs(60) * minutes, minutes);
        assert!(!dripping(1) && dripping(2));
        // A slow line, and a node that holds itself back.
        assert!((1..600).all(|minutes| !is_too_slow(&config, Duration::from_secs(60) * minutes, 4 * minutes)));
        let slow = BlobConfig { fetch_bytes_per_s: 1 << 10, ..config.clone() };
        assert!((1..600).all(|minutes| !is_too_slow(&slow, Duration::from_secs(60) * minutes, 1 + minutes / 32)));
        let any = BlobConfig { least_bytes_per_s: 0, ..config };
        assert!(!is_too_slow(&any, Duration::MAX, 0));
    }
}
