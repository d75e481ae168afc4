//! The signing guard of one seat: what it signed, so that it never signs a message that excludes an earlier one
//! (docs/protocol.md, section 6).
//!
//! # Correctness
//! [`Guard`] decides and remembers; the only way from its decision to a signature is [`Permit::sign`], which hands the
//! updated record to the caller's `persist` before it signs. If persisting fails there is no signature, and the guard
//! in memory stays as careful as if there were one. Asking again for what was signed gives the same message, and
//! ed25519 is deterministic, so after a restart the same bytes leave.

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Hash32};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::signed::{Signable, Signed};
use crate::types::{BlockHash, Closing, ClosingList, Header, Height, Vote};

/// Longest encoded record that is read back. A record of many heights without finality stays far below it.
const RECORD_BYTES_LIMIT: usize = 256 << 20;

/// Why the guard refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The message is another account's.
    #[error("the message is signed by {got:?}, this guard keeps {expected:?}")]
    Account {
        /// Signer of the message.
        got: AccountId,
        /// Whose guard this is.
        expected: AccountId,
    },
    /// It voted at this height or above.
    #[error("a vote at height {got} is refused, the last was at {last}")]
    VoteHeight {
        /// Height asked for.
        got: Height,
        /// Height of the last vote.
        last: Height,
    },
    /// It voted for a block in whose state a higher block is justified.
    #[error("a vote with justified height {got} is refused, an earlier one had {highest}")]
    VoteJustified {
        /// Justified height of the vote asked for.
        got: Height,
        /// Highest justified height voted with.
        highest: Height,
    },
    /// It signed another block on this parent.
    #[error("another block on {parent:?} was signed before")]
    AnotherBlock {
        /// The parent.
        parent: BlockHash,
    },
    /// Below the last final block nothing is remembered, so nothing is signed.
    #[error("the parent's height {got} is below the last final height {floor}")]
    BelowFinal {
        /// Height of the parent asked for.
        got: Height,
        /// Lowest height that the guard remembers.
        floor: Height,
    },
    /// The record does not decode.
    #[error("the signing guard's record is damaged, do not sign with this key: {0}")]
    Record(#[from] CodecError),
}

/// A closing as it was signed, with its list, which a restarted seat must send again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptClosing {
    parent_height: Height,
    closing: Closing,
    list: ClosingList,
}

/// What must be on disk before a signature leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardRecord {
    account: AccountId,
    last_vote: Option<Vote>,
    highest_justified: Height,
    /// Parents below this height are forgotten and refused.
    floor: Height,
    /// In the order in which they were signed.
    closings: Vec<KeptClosing>,
    /// In the order in which they were signed, with the height of their parents.
    blocks: Vec<Header>,
}

impl GuardRecord {
    /// Canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// The guard of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    record: GuardRecord,
}

/// Leave to sign one message, once the guard's record is safe.
#[derive(Debug)]
#[must_use = "nothing is signed until Permit::sign"]
pub struct Permit<T> {
    message: T,
    /// The record to persist; none if it did not change.
    record: Option<GuardRecord>,
}

impl<T: Signable> Permit<T> {
    /// The message that will be signed: the earlier one if the guard was asked again.
    pub fn message(&self) -> &T {
        &self.message
    }

    /// Hands the record to `persist`, which returns when it is synced to disk, and signs.
    ///
    /// # Errors
    /// What `persist` returns; then nothing was signed.
    pub fn sign<E>(
        self,
        chain: &Hash32,
        key: &SigningKey,
        persist: impl FnOnce(&GuardRecord) -> Result<(), E>,
    ) -> Result<Signed<T>, E> {
        if let Some(record) = &self.record {
            persist(record)?;
        }
        Ok(Signed::new(self.message, chain, key))
    }
}

impl Guard {
    /// A guard of an account that never signed anything.
    pub fn new(account: AccountId) -> Self {
        let record = GuardRecord {
            account,
            last_vote: None,
            highest_justified: 0,
            floor: 0,
            closings: Vec::new(),
            blocks: Vec::new(),
        };
        Self { record }
    }

    /// The guard as it was persisted.
    ///
    /// # Errors
    /// [`GuardError::Record`] for damaged bytes, [`GuardError::Account`] for another account's record.
    pub fn restore(account: AccountId, bytes: &[u8]) -> Result<Self, GuardError> {
        let record: GuardRecord = codec::decode(bytes, RECORD_BYTES_LIMIT)?;
        let guard = Self { record };
        guard.check_account(account)?;
        Ok(guard)
    }

    /// What to persist.
    pub fn record(&self) -> &GuardRecord {
        &self.record
    }

    /// Whose guard it is.
    pub fn account(&self) -> AccountId {
        self.record.account
    }

    /// The last vote authorised.
    pub fn last_vote(&self) -> Option<&Vote> {
        self.record.last_vote.as_ref()
    }

    /// Highest justified height of any vote.
    pub fn highest_justified(&self) -> Height {
        self.record.highest_justified
    }

    /// The closing authorised on a parent.
    pub fn closing(&self, parent: &BlockHash) -> Option<(&Closing, &ClosingList)> {
        self.record.closings.iter().find(|c| c.closing.parent == *parent).map(|c| (&c.closing, &c.list))
    }

    /// The block authorised on a parent.
    pub fn block(&self, parent: &BlockHash) -> Option<&Header> {
        self.record.blocks.iter().find(|header| header.parent == *parent)
    }

    /// Parents on which a block was authorised, from the last final height on.
    pub fn signed_parents(&self) -> impl Iterator<Item = BlockHash> {
        self.record.blocks.iter().map(|header| header.parent)
    }

    fn check_account(&self, signer: AccountId) -> Result<(), GuardError> {
        let expected = self.record.account;
        if signer == expected { Ok(()) } else { Err(GuardError::Account { got: signer, expected }) }
    }

    fn check_floor(&self, parent_height: Height) -> Result<(), GuardError> {
        let floor = self.record.floor;
        if parent_height >= floor { Ok(()) } else { Err(GuardError::BelowFinal { got: parent_height, floor }) }
    }

    fn permit<T>(&self, message: T, changed: bool) -> Permit<T> {
        Permit { message, record: changed.then(|| self.record.clone()) }
    }

    /// Leave to vote. Asked again for the block of the last vote it permits that vote, ready tasks and all.
    ///
    /// # Errors
    /// [`GuardError::VoteHeight`], [`GuardError::VoteJustified`], [`GuardError::Account`].
    pub fn authorise_vote(&mut self, vote: Vote) -> Result<Permit<Vote>, GuardError> {
        self.check_account(vote.seat)?;
        if let Some(last) = &self.record.last_vote {
            if (last.height, last.block) == (vote.height, vote.block) {
                return Ok(self.permit(last.clone(), false));
            }
            if vote.height <= last.height {
                return Err(GuardError::VoteHeight { got: vote.height, last: last.height });
            }
        }
        let highest = self.record.highest_justified;
        if vote.justified < highest {
            return Err(GuardError::VoteJustified { got: vote.justified, highest });
        }
        self.record.highest_justified = vote.justified;
        self.record.last_vote = Some(vote.clone());
        Ok(self.permit(vote, true))
    }

    /// Leave to close on a parent with a list. Asked again for a parent it permits the first closing; its list is
    /// [`Self::closing`]'s. The list's root is made here, so that the two cannot differ.
    ///
    /// # Errors
    /// [`GuardError::BelowFinal`].
    pub fn authorise_closing(
        &mut self,
        parent: BlockHash,
        parent_height: Height,
        list: ClosingList,
    ) -> Result<Permit<Closing>, GuardError> {
        if let Some((closing, _)) = self.closing(&parent) {
            return Ok(self.permit(closing.clone(), false));
        }
        self.check_floor(parent_height)?;
        let closing = Closing { parent, seat: self.record.account, list_root: list.root() };
        self.record.closings.push(KeptClosing { parent_height, closing: closing.clone(), list });
        Ok(self.permit(closing, true))
    }

    /// Leave to sign a block: a candidate or a fallback block, one on a parent. Asked again for the same header it
    /// permits it again.
    ///
    /// # Errors
    /// [`GuardError::AnotherBlock`], [`GuardError::BelowFinal`], [`GuardError::Account`].
    pub fn authorise_block(&mut self, header: Header) -> Result<Permit<Header>, GuardError> {
        self.check_account(header.producer)?;
        if let Some(signed) = self.block(&header.parent) {
            return if *signed == header {
                Ok(self.permit(header, false))
            } else {
                Err(GuardError::AnotherBlock { parent: header.parent })
            };
        }
        self.check_floor(header.height.saturating_sub(1))?;
        self.record.blocks.push(header.clone());
        Ok(self.permit(header, true))
    }

    /// Forgets closings and blocks on parents below the last final block; from then on it refuses those parents. The
    /// shorter record goes to disk with the next signature, so nothing need be written now.
    pub fn prune(&mut self, final_height: Height) {
        self.record.floor = self.record.floor.max(final_height);
        let floor = self.record.floor;
        self.record.closings.retain(|c| c.parent_height >= floor);
        self.record.blocks.retain(|header| header.height > floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::account_of;
    use crate::tree::tests::block;
    use crate::types::{Commitment, Outcome};

    const CHAIN: Hash32 = Hash32([3; 32]);

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn me() -> AccountId {
        account_of(&key())
    }

    fn vote(height: Height, block: u8, justified: Height) -> Vote {
        Vote { height, block: Hash32([block; 32]), justified, ready: Vec::new(), seat: me() }
    }

    fn header(parent: u8, height: Height, view: u32) -> Header {
        let mut header = block(Hash32([parent; 32]), height, 0, Outcome::Idle { key: None }, view).header.message;
        header.producer = me();
        header
    }

    fn list(id: u8) -> ClosingList {
        let id = Hash32([id; 32]);
        let message = Commitment { parent: Hash32::ZERO, task: Hash32::ZERO, round: 0, owner: me(), id };
        ClosingList::new([Signed::new(message, &CHAIN, &key())])
    }

    #[test]
    fn votes_rise_in_height_and_never_fall_in_justified_height() {
        let mut guard = Guard::new(me());
        assert!(guard.authorise_vote(vote(5, 1, 3)).is_ok());
        let refused = guard.authorise_vote(vote(5, 2, 3)).unwrap_err();
        assert_eq!(refused, GuardError::VoteHeight { got: 5, last: 5 });
        let refused = guard.authorise_vote(vote(4, 2, 3)).unwrap_err();
        assert_eq!(refused, GuardError::VoteHeight { got: 4, last: 5 });
        let refused = guard.authorise_vote(vote(6, 2, 2)).unwrap_err();
        assert_eq!(refused, GuardError::VoteJustified { got: 2, highest: 3 });
        assert!(guard.authorise_vote(vote(6, 2, 3)).is_ok());
        assert!(guard.authorise_vote(vote(9, 2, 8)).is_ok());
        assert_eq!((guard.last_vote().unwrap().height, guard.highest_justified()), (9, 8));
    }

    #[test]
    fn asked_again_it_permits_the_same_bytes() {
        let mut guard = Guard::new(me());
        let mut kept = Vec::new();
        let mut persist = |record: &GuardRecord| {
            kept = record.to_bytes();
            Ok::<(), ()>(())
        };
        let first = guard.authorise_vote(vote(5, 1, 3)).unwrap().sign(&CHAIN, &key(), &mut persist).unwrap();
        let closing = guard.authorise_closing(Hash32([1; 32]), 5, list(1)).unwrap();
        let closing = closing.sign(&CHAIN, &key(), &mut persist).unwrap();
        let one = guard.authorise_block(header(1, 6, 0)).unwrap().sign(&CHAIN, &key(), &mut persist).unwrap();

        let mut restored = Guard::restore(me(), &kept).unwrap();
        assert_eq!(restored, guard);
        let never = |_: &GuardRecord| -> Result<(), ()> { panic!("nothing new to persist") };
        let mut again = vote(5, 1, 3);
        again.ready.push(Hash32([8; 32]));
        assert_eq!(restored.authorise_vote(again).unwrap().sign(&CHAIN, &key(), never), Ok(first));
        let second = restored.authorise_closing(Hash32([1; 32]), 5, list(2)).unwrap();
        assert_eq!(second.sign(&CHAIN, &key(), never), Ok(closing));
        assert_eq!(restored.closing(&Hash32([1; 32])).unwrap().1, &list(1));
        let same = restored.authorise_block(header(1, 6, 0)).unwrap();
        assert_eq!(same.sign(&CHAIN, &key(), never), Ok(one));
        let refused = restored.authorise_block(header(1, 6, 1)).unwrap_err();
        assert_eq!(refused, GuardError::AnotherBlock { parent: Hash32([1; 32]) });
    }

    #[test]
    fn no_signature_without_the_record_on_disk() {
        let mut guard = Guard::new(me());
        let full = guard.authorise_vote(vote(5, 1, 3)).unwrap().sign(&CHAIN, &key(), |_| Err("disk full"));
        assert_eq!(full, Err("disk full"));
        assert!(guard.authorise_vote(vote(5, 2, 3)).is_err(), "it stays as careful as if it had signed");
    }

    #[test]
    fn other_accounts_and_damaged_records_are_refused() {
        let mut guard = Guard::new(me());
        let other = AccountId([1; 32]);
        let expected = GuardError::Account { got: other, expected: me() };
        assert_eq!(guard.authorise_vote(Vote { seat: other, ..vote(1, 1, 0) }).unwrap_err(), expected);
        assert_eq!(guard.authorise_block(Header { producer: other, ..header(1, 1, 0) }).unwrap_err(), expected);
        let bytes = guard.record().to_bytes();
        assert_eq!(Guard::restore(other, &bytes), Err(expected));
        assert!(matches!(Guard::restore(me(), &bytes[1..]), Err(GuardError::Record(_))));
    }

    #[test]
    fn pruning_bounds_it_and_what_is_forgotten_is_refused() {
        let mut guard = Guard::new(me());
        for height in 0..100u8 {
            assert!(guard.authorise_closing(Hash32([height; 32]), height.into(), list(height)).is_ok());
            assert!(guard.authorise_block(header(height, u64::from(height) + 1, 0)).is_ok());
            guard.prune(u64::from(height).saturating_sub(2));
            assert!(guard.record.closings.len() <= 3 && guard.record.blocks.len() <= 3);
        }
        let below = GuardError::BelowFinal { got: 50, floor: 97 };
        assert_eq!(guard.authorise_closing(Hash32([50; 32]), 50, list(0)).unwrap_err(), below);
        assert_eq!(guard.authorise_block(header(50, 51, 0)).unwrap_err(), below);
        // The same parent is still permitted where it is remembered.
        assert!(guard.authorise_closing(Hash32([98; 32]), 98, list(0)).is_ok());
        guard.prune(0);
        assert_eq!(guard.record.floor, 97, "the floor never falls");
    }
}
