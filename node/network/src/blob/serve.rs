//! Answering other nodes' requests for blobs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libp2p::PeerId;
use podl_chain_spec::Hash32;
use tokio::sync::{Semaphore, mpsc};

use super::geometry::PIECE_BYTES;
use super::protocol::{BlobRequest, BlobResponse, decode, encode};
use super::store::{BlobStore, Held};
use crate::command::Command;
use crate::config::BlobConfig;
use crate::event::InboundRequest;
use crate::peers::Misbehaviour;
use crate::rate::Bucket;

/// Requests of one peer that wait; more are refused. A fetch asks for four pieces at a time, a node runs eight.
const WAITING_OF_PEER: usize = 64;
/// Requests that wait in all: of each inbound peer its full number, some 2 MiB.
const WAITING: usize = 4096;
/// Pieces read and checked at a time: they compete with the node's own work for disk and cores.
const READERS: usize = 2;

/// What waits, taken from each peer in turn: a flood delays others by one request each time, and never shuts them out.
#[derive(Debug)]
struct Turns<T> {
    of_peer: BTreeMap<PeerId, VecDeque<T>>,
    /// Peers of whom something waits, each once.
    order: VecDeque<PeerId>,
    waiting: usize,
}

impl<T> Turns<T> {
    fn new() -> Self {
        Self { of_peer: BTreeMap::new(), order: VecDeque::new(), waiting: 0 }
    }

    /// Queues something of a peer; false when too much waits.
    fn push(&mut self, peer: PeerId, item: T) -> bool {
        let of_peer = self.of_peer.get(&peer).map_or(0, VecDeque::len);
        if of_peer >= WAITING_OF_PEER || self.waiting >= WAITING {
            return false;
        }
        if of_peer == 0 {
            self.order.push_back(peer);
        }
        self.of_peer.entry(peer).or_default().push_back(item);
        self.waiting += 1;
        true
    }

    fn pop(&mut self) -> Option<T> {
        let peer = self.order.pop_front()?;
        let of_peer = self.of_peer.get_mut(&peer)?;
        let item = of_peer.pop_front()?;
        self.waiting -= 1;
        if of_peer.is_empty() {
            self.of_peer.remove(&peer);
        } else {
            self.order.push_back(peer);
        }
        Some(item)
    }
}

type Queue = Arc<Mutex<Turns<InboundRequest>>>;

/// Where requests for blobs go.
#[derive(Clone, Debug)]
pub(crate) struct BlobRequests {
    queue: Queue,
    /// One sign for each request in the queue.
    more: mpsc::UnboundedSender<()>,
}

impl BlobRequests {
    /// Takes a request; it is refused when too many wait.
    pub(crate) fn take(&self, request: InboundRequest) {
        let peer = request.peer;
        if !self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(peer, request) {
            return tracing::debug!(%peer, "request for a blob refused: too many wait");
        }
        // An error means that the runtime is shutting down.
        let _ended = self.more.send(());
    }
}

struct Server {
    store: Arc<BlobStore>,
    rate: Mutex<Bucket>,
}

/// Starts the task that answers; it ends when the network has ended.
pub(crate) fn start(store: Arc<BlobStore>, config: &BlobConfig) -> BlobRequests {
    let (more, mut signs) = mpsc::unbounded_channel();
    let queue = Queue::new(Mutex::new(Turns::new()));
    let requests = BlobRequests { queue: Arc::clone(&queue), more };
    let rate = Bucket::new(config.serve_bytes_per_s, config.serve_bytes_per_s.max(4 * PIECE_BYTES), Instant::now());
    let server = Arc::new(Server { store, rate: Mutex::new(rate) });
    let readers = Arc::new(Semaphore::new(READERS));
    tokio::spawn(async move {
        while let Some(()) = signs.recv().await {
            // Whose turn it is shows when a reader is free.
            let Ok(permit) = Arc::clone(&readers).acquire_owned().await else { break };
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(request) = next else { continue };
            let server = Arc::clone(&server);
            tokio::task::spawn_blocking(move || {
                server.answer(request);
                drop(permit);
            });
        }
    });
    requests
}

impl Server {
    fn answer(&self, request: InboundRequest) {
        if !request.reply.is_open() {
            return;
        }
        match decode(&request.bytes) {
            Ok(question) => {
                if let Err(error) = request.reply.send(encode(&self.response(&question))) {
                    tracing::debug!(%error, "answer about a blob not sent");
                }
            }
            Err(reason) => {
                let (peer, what) = (request.peer, Misbehaviour::Malformed);
                let why = format!("request for a blob: {reason}");
                // An error means that the network is busy or gone; the request is refused all the same.
                let _unsent = request.reply.commands.try_send(Command::Penalise { peer, what, why });
            }
        }
    }

    fn response(&self, question: &BlobRequest) -> BlobResponse {
        match question {
            BlobRequest::Have { root } => match self.store.held(&Hash32(*root)) {
                Held::None => BlobResponse::Missing,
                Held::Whole { bytes } => BlobResponse::Whole { bytes },
                Held::Partial { bytes, here } => BlobResponse::Partial { bytes, pieces: here.bits().to_vec() },
            },
            BlobRequest::Piece { root, bytes, piece } => {
                // Asking for what is not here must not use up the rate of those who ask for what is.
                if !self.store.has_piece(&Hash32(*root), *bytes, *piece) {
                    return BlobResponse::Missing;
                }
                let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
                let admitted = rate.take(PIECE_BYTES.min(*bytes), Instant::now());
                drop(rate);
                if let Err(wait) = admitted {
                    return BlobResponse::Busy { retry_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX) };
                }
                match self.store.read_piece(&Hash32(*root), *bytes, *piece) {
                    Some(encoded) => BlobResponse::Piece(encoded),
                    None => BlobResponse::Missing,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_turn_however_many_requests_another_has() {
        let mut turns = Turns::new();
        let (flooder, honest) = (PeerId::random(), PeerId::random());
        let taken = (0..1000).filter(|_| turns.push(flooder, "flood")).count();
        assert_eq!(taken, WAITING_OF_PEER);
        assert!(turns.push(honest, "one") && turns.push(honest, "two"));
        let next: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(next[..5], ["flood", "one", "flood", "two", "flood"]);
        assert_eq!(next.len(), WAITING_OF_PEER + 2);
        assert!(turns.of_peer.is_empty() && turns.order.is_empty() && turns.waiting == 0);
    }

    #[test]
    fn no_more_wait_than_a_number_whatever_peers_come_and_go() {
        let mut turns = Turns::new();
        assert_eq!((0..2 * WAITING).filter(|_| turns.push(PeerId::random(), ())).count(), WAITING);
    }

    #[test]
    fn asking_for_what_is_not_here_uses_up_no_rate() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(BlobStore::open(folder.path(), 1 << 20).unwrap());
        let root = store.insert(&[7; 1000]).unwrap();
        let rate = Mutex::new(Bucket::new(1, PIECE_BYTES, Instant::now()));
        let server = Server { store, rate };
        let ask = |root, bytes, piece| server.response(&BlobRequest::Piece { root, bytes, piece });
        for n in 0..20 {
            assert_eq!(ask([n; 32], u64::MAX, u32::MAX), BlobResponse::Missing);
            assert_eq!(ask(root.0, u64::MAX, 0), BlobResponse::Missing, "another length");
            assert_eq!(ask(root.0, 1000, u32::MAX), BlobResponse::Missing, "another piece");
        }
        assert!(matches!(ask(root.0, 1000, 0), BlobResponse::Piece(_)));
    }
}
