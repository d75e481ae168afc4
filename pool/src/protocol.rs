//! Messages of `/podl/<genesis8>/pool/1`: requests of a miner, replies of a manager.
//!
//! Canonical postcard ([`podl_consensus::codec`]); anything else is refused. Lengths are limited before decoding and
//! every list after it. The sender's identity is that of the connection, never a field.

use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::codec::{self, CodecError};
use podl_consensus::types::BlobRef;
use serde::{Deserialize, Serialize};

use crate::calibration::CalibrationJob;
use crate::ledger::Luck;
use crate::types::{AuditTally, BackupTally, Class, EvaluationPlan, Interval, Lease, LeaseId, Share};

/// Version of these messages. A miner of another version is told to update.
pub const VERSION: u16 = 6;
/// Version in the protocol's name. Requests to join and refusals have one form under it, so that a miner of another
/// [`VERSION`] can be told.
const WIRE: u16 = 1;
/// Most bytes of an artefact inside a message; larger ones go ahead in chunks.
pub const INLINE_BYTES: usize = 1 << 20;
/// Bytes of each chunk of an upload but the last, which is what remains.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Most bytes of a request: an inline artefact and its share.
pub const REQUEST_BYTES: usize = INLINE_BYTES + (16 << 10);
/// Most bytes of a reply: a workload (normalisation of 4 x 256 values, lists of a space) and elites.
pub const REPLY_BYTES: usize = 64 << 10;
/// Most characters of a miner's name for its software.
pub const AGENT_CHARACTERS: usize = 64;
/// Most networks in a lease.
pub const ASSIGNMENTS: usize = 16;
/// Most results that a lease is handed in by.
pub const STEPS: u8 = 64;
/// Most convolution layers in a message, whatever the chain's caps.
const LAYERS: usize = 32;

/// What a miner asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First message of every connection.
    Hello {
        /// [`VERSION`] of the miner.
        version: u16,
        /// Whom to pay.
        account: AccountId,
        /// Software and version, for people.
        agent: String,
    },
    /// Answer to a calibration.
    Calibrated {
        /// The job's seed.
        seed: [u8; 32],
        /// Digest of the answer.
        digest: Hash32,
    },
    /// Asks for work and ends the lease that the miner has.
    Lease,
    /// Progress of a lease; also the heartbeat.
    Progress {
        /// The lease.
        lease: LeaseId,
        /// Training multiply-accumulates spent under it so far.
        done_macs: u64,
    },
    /// A result. The artefact is inline, or its chunks were sent before.
    Submit {
        /// The claim.
        share: Share,
        /// The artefact's bytes if they are at most [`INLINE_BYTES`].
        inline: Option<Vec<u8>>,
    },
    /// Part of an artefact, or of a state that the manager wants for an audit, in order from offset 0.
    Chunk {
        /// The whole.
        artefact: BlobRef,
        /// Where the part begins.
        offset: u64,
        /// The part.
        bytes: Vec<u8>,
    },
    /// Hands the lease back and leaves.
    Leave,
}

/// Why a request was refused. Every refusal says what it is and, after a colon, what to do. Its code, where people read it,
/// is its name in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Not canonical, too long, or a list beyond its limit.
    #[error("malformed request: update the miner, its messages are not of this protocol")]
    Malformed,
    /// Another protocol version.
    #[error("other protocol version: update the older of miner and pool")]
    Version,
    /// No Hello yet on this pool.
    #[error("unknown miner: say hello first")]
    Unknown,
    /// The pool has as many miners as it takes.
    #[error("the pool is full: try later or join another pool")]
    Full,
    /// Too many messages.
    #[error("too many requests: wait as told before the next")]
    RateLimited,
    /// Work before calibration.
    #[error("not calibrated: run the calibration of the welcome first")]
    NotCalibrated,
    /// A wrong or late calibration answer.
    #[error("calibration failed: the answer is wrong; check for faulty memory or an altered kernel")]
    CalibrationFailed,
    /// Nothing to do now.
    #[error("no interval is in its training phase: ask again as told")]
    NoInterval,
    /// The rest of the phase is too short for a lease.
    #[error("the phase ends before a lease could: ask again as told")]
    TooLate,
    /// Not this miner's lease, or one of another interval.
    #[error("no such lease: ask for one")]
    NoLease,
    /// A result after the lease's grace window.
    #[error("the lease is over: submit earlier, results count until shortly after its end")]
    Late,
    /// More work claimed than the lease has.
    #[error("more work claimed than the lease allows: stop at the lease's budget")]
    OverBudget,
    /// More work claimed than this miner's measured speed makes possible.
    #[error(
        "more work claimed than the measured speed allows: join as another miner (--data-dir), which is measured anew"
    )]
    Implausible,
    /// A network outside what the lease names.
    #[error("the network is outside the lease: train only what the lease names")]
    OutsideLease,
    /// Somebody has trained this candidate, or this very model was submitted already.
    #[error("already trained: a model is paid once; train what the next lease names")]
    NotNovel,
    /// The artefact's bytes are missing, or are not of its root and length.
    #[error("the artefact is not there: upload it, by chunks if it is over the inline limit")]
    NoArtefact,
    /// A chunk out of order, or an artefact beyond the chain's cap.
    #[error("bad chunk: send an artefact's chunks in order from offset 0, within the chain's cap")]
    BadChunk,
    /// Too many results wait to be checked.
    #[error("the pool is busy checking: submit again as told")]
    Busy,
    /// Claims proved false or messages broke the rules too often.
    #[error("suspended after false claims or broken messages: wait as told")]
    Suspended,
}

impl Refusal {
    /// What is wrong, and what to do about it.
    pub fn reason_and_remedy(self) -> (String, String) {
        let text = self.to_string();
        text.split_once(": ").map_or_else(|| (text.clone(), String::new()), |(a, b)| (a.into(), b.into()))
    }

    /// Whether it only says when to ask again, so that an honest miner hears it in the course of things.
    pub fn is_routine(self) -> bool {
        matches!(self, Self::RateLimited | Self::NoInterval | Self::TooLate | Self::Busy)
    }
}

/// What a miner is told with every acknowledgement: integers of fixed number, so that it needs no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its class.
    pub class: Class,
    /// Measured training speed, in multiply-accumulates a second.
    pub speed_macs_s: u64,
    /// The speed above which miners were strong when classes were last assigned.
    pub strong_from_macs_s: u64,
    /// Its verified multiply-accumulates in the pay window: what blocks still to be won will pay.
    pub window_macs: u64,
    /// Those of all miners.
    pub pool_window_macs: u64,
    /// Intervals in the pay window: in how many chances to win each piece of work takes part.
    pub window_intervals: u16,
    /// Its verified multiply-accumulates that enter the window when a first replay passes, and are lost if it fails.
    pub kept_back_macs: u64,
    /// Its part of won blocks that are not final yet.
    pub pending: Amount,
    /// Its part of final blocks since the pool knows it: paid, or about to be.
    pub paid: Amount,
    /// What a block won now would pay it, if the reward were that of the pool's last won block and the finder were
    /// another miner; none before the pool has won one.
    pub next_payment: Option<Amount>,
    /// How often the pool has won lately.
    pub luck: Luck,
    /// Its results accepted so far.
    pub accepted: u32,
    /// Its results refused or found false.
    pub rejected: u32,
    /// Replays of its training.
    pub audits: AuditTally,
    /// Networks that it and others took over from each other.
    pub backups: BackupTally,
}

/// What a manager answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To Hello.
    Welcome {
        /// The pool's cut, in hundredths of a percent.
        fee_basis_points: u16,
        /// How often to report progress.
        heartbeat_ms: u64,
        /// What to calibrate with; none when the pool knows the miner's speed.
        calibrate: Option<CalibrationJob>,
        /// A state that the manager wants, as in an Ack: a miner that began anew hears of it before it has work.
        audit: Option<BlobRef>,
    },
    /// To Calibrated: the measurement was too short, do this longer one.
    CalibrateAgain(CalibrationJob),
    /// Work.
    Lease {
        /// The lease.
        lease: Box<Lease>,
        /// Its interval.
        interval: Box<Interval>,
        /// What to claim counts on.
        plan: EvaluationPlan,
    },
    /// Taken.
    Ack {
        /// False when the miner's lease is no longer worth working on.
        go_on: bool,
        /// Thousandths of the manager's hold-out that the pool's best model classifies correctly. Not which model it is:
        /// whoever knows an artefact's hash can fetch it.
        best_permille: Option<u16>,
        /// The miner's standing.
        standing: Standing,
        /// A state that the manager wants uploaded in chunks: what a share of the miner's was trained from. Without
        /// it the share counts as false.
        audit: Option<BlobRef>,
    },
    /// Not taken.
    Refused {
        /// Why, and what to do.
        refusal: Refusal,
        /// When to ask again, if asking again makes sense.
        retry_ms: u64,
    },
    /// To Leave.
    Goodbye {
        /// Verified multiply-accumulates in the pay window. Blocks that the pool wins within it pay them, whether or not
        /// the miner comes back.
        window_macs: u64,
    },
}

/// Decodes a request and checks its lists.
///
/// # Errors
/// [`CodecError`] for bytes that are too long, malformed, not canonical or beyond a list's limit.
pub fn decode_request(bytes: &[u8]) -> Result<Request, CodecError> {
    let request: Request = codec::decode(bytes, REQUEST_BYTES)?;
    let (got, limit) = match &request {
        Request::Hello { agent, .. } => (agent.chars().count(), AGENT_CHARACTERS),
        Request::Submit { share, inline } => {
            too_long(inline.as_ref().map_or(0, Vec::len), INLINE_BYTES)?;
            (share.architecture.layers.len(), LAYERS)
        }
        Request::Chunk { bytes, .. } => (bytes.len(), CHUNK_BYTES),
        _ => (0, 0),
    };
    too_long(got, limit)?;
    Ok(request)
}

/// Decodes a reply and checks its lists.
///
/// # Errors
/// As [`decode_request`].
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, CodecError> {
    let reply: Reply = codec::decode(bytes, REPLY_BYTES)?;
    if let Reply::Lease { lease, .. } = &reply {
        check_lease(lease)?;
    }
    Ok(reply)
}

fn check_lease(lease: &Lease) -> Result<(), CodecError> {
    too_long(lease.work.len(), ASSIGNMENTS)?;
    too_long(lease.steps.into(), STEPS.into())?;
    lease.work.iter().try_for_each(|work| too_long(work.architecture.layers.len(), LAYERS))
}

fn too_long(got: usize, limit: usize) -> Result<(), CodecError> {
    if got <= limit { Ok(()) } else { Err(CodecError::TooLong { got, limit }) }
}

/// Bytes of a message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    codec::encode(message)
}

/// The protocol's name on a chain: the first 8 bytes of the genesis hash keep chains apart.
pub fn protocol_name(genesis: &Hash32) -> String {
    let text = genesis.to_string();
    format!("/podl/{}/pool/{WIRE}", &text[..16])
}

#[cfg(test)]
mod tests {
    use podl_consensus::workload::Architecture;
    use proptest::prelude::*;

    use super::*;

    fn share(layers: usize) -> Share {
        let layer = podl_consensus::workload::ConvLayer {
            kernel: [3, 3],
            filters: 8,
            stride: [1, 1],
            pool: 2,
            act: podl_consensus::workload::FixedPoint::new(1, 4),
            weight: podl_consensus::workload::FixedPoint::new(1, 5),
        };
        Share {
            lease: LeaseId(3),
            artefact: BlobRef { root: Hash32([1; 32]), bytes: 9 },
            architecture: Architecture { layers: vec![layer; layers] },
            base: None,
            images: 100,
            correct: 7,
            ordered: 120,
            left_permille: (900, 800),
            states: crate::training::States::default(),
        }
    }

    #[test]
    fn requests_round_trip_and_limits_hold() {
        let good = Request::Submit { share: share(6), inline: Some(vec![5; INLINE_BYTES]) };
        assert_eq!(decode_request(&encode(&good)).unwrap(), good);
        let bad = [
            Request::Submit { share: share(6), inline: Some(vec![5; INLINE_BYTES + 1]) },
            Request::Submit { share: share(33), inline: None },
            Request::Hello { version: 1, account: AccountId([0; 32]), agent: "x".repeat(65) },
            Request::Chunk {
                artefact: BlobRef { root: Hash32([0; 32]), bytes: 1 },
                offset: 0,
                bytes: vec![0; CHUNK_BYTES + 1],
            },
        ];
        for request in bad {
            assert!(matches!(decode_request(&encode(&request)), Err(CodecError::TooLong { .. })));
        }
        assert!(matches!(decode_request(&vec![0; REQUEST_BYTES + 1]), Err(CodecError::TooLong { .. })));
        let mut trailing = encode(&Request::Lease);
        trailing.push(0);
        assert_eq!(decode_request(&trailing), Err(CodecError::NotCanonical));
    }

    #[test]
    fn the_longest_standing_round_trips_in_an_acknowledgement() {
        let (amount, most) = (Amount(u64::MAX), u32::MAX);
        let standing = Standing {
            class: Class::Weak,
            speed_macs_s: u64::MAX,
            strong_from_macs_s: u64::MAX,
            window_macs: u64::MAX,
            pool_window_macs: u64::MAX,
            window_intervals: u16::MAX,
            kept_back_macs: u64::MAX,
            pending: amount,
            paid: amount,
            next_payment: Some(amount),
            luck: Luck { won: most, intervals: most },
            accepted: most,
            rejected: most,
            audits: AuditTally { passed: most, failed: most },
            backups: BackupTally { own_taken_over: most, own_backed_up: most, taken_over: most, backed_up: most },
        };
        let reply = Reply::Ack { go_on: true, best_permille: None, standing, audit: None };
        let bytes = encode(&reply);
        assert!(bytes.len() < 200, "an acknowledgement answers every heartbeat: {} bytes", bytes.len());
        assert_eq!(decode_reply(&bytes).unwrap(), reply);
        assert!(decode_reply(&bytes[..bytes.len() - 1]).is_err(), "cut short");
    }

    #[test]
    fn every_refusal_names_a_remedy() {
        // A unit variant is encoded as its number.
        let all: Vec<Refusal> = (0u8..).map_while(|number| codec::decode(&[number], 1).ok()).collect();
        assert_eq!((all.len(), all.last()), (19, Some(&Refusal::Suspended)));
        for refusal in all {
            let (reason, remedy) = refusal.reason_and_remedy();
            assert!(!reason.is_empty() && remedy.len() > 8, "{refusal}");
        }
        assert_eq!(protocol_name(&Hash32([0xab; 32])), "/podl/abababababababab/pool/1");
    }

    proptest! {
        #[test]
        fn decoders_never_panic_and_accept_only_encodings(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = decode_request(&bytes) {
                prop_assert_eq!(encode(&request), bytes.clone());
            }
            if let Ok(reply) = decode_reply(&bytes) {
                prop_assert_eq!(encode(&reply), bytes);
            }
        }
    }
}
