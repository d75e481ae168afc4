//! Answering other nodes' requests for blobs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

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

/// Requests that wait; more are refused.
const WAITING: usize = 128;
/// Pieces read and checked at a time: they compete with the node's own work for disk and cores.
const READERS: usize = 2;

/// Where requests for blobs go.
#[derive(Clone, Debug)]
pub(crate) struct BlobRequests(mpsc::Sender<InboundRequest>);

impl BlobRequests {
    /// Takes a request; it is refused when too many wait.
    pub(crate) fn take(&self, request: InboundRequest) {
        if self.0.try_send(request).is_err() {
            tracing::debug!("request for a blob refused: too many wait");
        }
    }
}

struct Server {
    store: Arc<BlobStore>,
    rate: Mutex<Bucket>,
}

/// Starts the task that answers; it ends when the network has ended.
pub(crate) fn start(store: Arc<BlobStore>, config: &BlobConfig) -> BlobRequests {
    let (sender, mut requests) = mpsc::channel::<InboundRequest>(WAITING);
    let rate = Bucket::new(config.serve_bytes_per_s, config.serve_bytes_per_s.max(4 * PIECE_BYTES), Instant::now());
    let server = Arc::new(Server { store, rate: Mutex::new(rate) });
    let readers = Arc::new(Semaphore::new(READERS));
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let Ok(permit) = Arc::clone(&readers).acquire_owned().await else { break };
            let server = Arc::clone(&server);
            tokio::task::spawn_blocking(move || {
                server.answer(request);
                drop(permit);
            });
        }
    });
    BlobRequests(sender)
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
