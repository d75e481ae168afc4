//! Messages as an attacker makes them: well signed, and otherwise whatever it likes.

use ed25519_dalek::SigningKey;
use podl_chain_spec::{AccountId, Amount, Hash32};
use podl_consensus::codec;
use podl_consensus::interval_context::filler_task;
use podl_consensus::signed::{Signature, Signed, account_of};
use podl_consensus::types::{
    Block, BlockHash, Body, Closing, ClosingList, Commitment, Header, Height, ListedClosing, Outcome, Payment,
    SignedTransaction, SignedVote, TaskId, Transaction, TransactionKind, Vote,
};

/// Bytes of a transaction beyond those of its message with a fee of one byte: the longest fee, and the signature.
const FEE_AND_SIGNATURE_BYTES: u64 = 10 + 64;

/// Where a block can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Height of the block.
    pub height: Height,
    /// What it stands on.
    pub parent: BlockHash,
    /// What the interval works on.
    pub task: TaskId,
    /// Its round.
    pub round: u32,
}

impl Place {
    /// A filler interval on a parent.
    pub(crate) fn filler(chain: &Hash32, parent: BlockHash, height: Height) -> Self {
        Self { height, parent, task: filler_task(chain, &parent), round: 0 }
    }
}

/// An account that signs for one chain.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    chain: Hash32,
    key: SigningKey,
    account: AccountId,
}

impl Signer {
    pub(crate) fn new(chain: Hash32, key: SigningKey) -> Self {
        Self { chain, account: account_of(&key), key }
    }

    pub(crate) fn account(&self) -> AccountId {
        self.account
    }

    pub(crate) fn vote(&self, height: Height, block: BlockHash, justified: Height, ready: Vec<TaskId>) -> SignedVote {
        let message = Vote { height, block, justified, ready, seat: self.account };
        Signed::new(message, &self.chain, &self.key)
    }

    pub(crate) fn commitment(&self, place: &Place, id: Hash32) -> Signed<Commitment> {
        let Place { parent, task, round, .. } = *place;
        Signed::new(Commitment { parent, task, round, owner: self.account, id }, &self.chain, &self.key)
    }

    /// A closing whose signed root is that of `signed`, sent with the list `sent`.
    pub(crate) fn closing(&self, parent: BlockHash, signed: &ClosingList, sent: ClosingList) -> ListedClosing {
        let message = Closing { parent, seat: self.account, list_root: signed.root() };
        ListedClosing { closing: Signed::new(message, &self.chain, &self.key), list: sent }
    }

    /// A block, with a state root that nobody computed.
    pub(crate) fn block(&self, place: &Place, view: u32, time_ms: u64, outcome: Outcome, state_root: Hash32) -> Block {
        let body = Body { votes: Vec::new(), certificate: None, outcome, transactions: Vec::new() };
        let header = Header {
            chain: self.chain,
            height: place.height,
            parent: place.parent,
            time_ms,
            kind: body.outcome.kind(),
            view,
            task: place.task,
            round: place.round,
            producer: self.account,
            body_root: body.root(),
            state_root,
        };
        Block { header: Signed::new(header, &self.chain, &self.key), body }
    }

    /// A block without a model.
    pub(crate) fn idle(&self, place: &Place, view: u32, time_ms: u64, state_root: Hash32) -> Block {
        self.block(place, view, time_ms, Outcome::Idle { key: None }, state_root)
    }

    /// A transfer of one unit at the least fee.
    pub(crate) fn transfer(&self, per_byte: Amount, to: AccountId, nonce: u64) -> SignedTransaction {
        let kind = TransactionKind::Transfer(Payment { to, amount: Amount(1) });
        let mut message = Transaction { sender: self.account, nonce, fee: Amount::ZERO, kind };
        let bytes = codec::encode(&message).len() as u64 + FEE_AND_SIGNATURE_BYTES;
        message.fee = per_byte.checked_mul(bytes).unwrap_or_default();
        Signed::new(message, &self.chain, &self.key)
    }
}

/// The same message with a signature that is none, another for each number: what went round once does not go again.
pub(crate) fn unsigned<T>(signed: Signed<T>, number: u64) -> Signed<T> {
    let mut signature = Signature([7; 64]);
    signature.0[..8].copy_from_slice(&number.to_be_bytes());
    Signed { signature, ..signed }
}

/// Bytes that mean nothing.
pub(crate) fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use podl_chain_spec::ChainSpec;
    use podl_consensus::rules::isolation;
    use podl_consensus::rules::transaction::check_form;

    #[test]
    fn what_is_forged_passes_the_first_door() {
        let spec = ChainSpec::load("dev").unwrap();
        let chain = spec.genesis_hash();
        let signer = Signer::new(chain, keys::account(1));
        let place = Place::filler(&chain, chain, 1);
        let idle = signer.idle(&place, 3, 5, Hash32::ZERO);
        isolation::check_form(&spec, &chain, &idle).unwrap();
        isolation::check_signatures(&chain, &idle).unwrap();
        let transfer = signer.transfer(spec.money.fee_per_byte, signer.account(), u64::MAX);
        assert!(check_form(&spec, &transfer).is_ok() && transfer.verify(&chain).is_ok());
        let commitment = signer.commitment(&place, Hash32::ZERO);
        assert!(commitment.verify(&chain).is_ok() && unsigned(commitment.clone(), 1).verify(&chain).is_err());
        let ListedClosing { closing, list: sent } =
            signer.closing(chain, &ClosingList::default(), ClosingList(vec![commitment]));
        assert!(closing.verify(&chain).is_ok() && sent.root() != closing.message.list_root);
        assert!(signer.vote(1, chain, 0, vec![chain, chain]).verify(&chain).is_ok());
    }

    #[test]
    fn noise_is_the_same_each_time() {
        assert_eq!((noise(1, 10), noise(1, 10).len()), (noise(1, 10), 10));
        assert_ne!(noise(1, 10), noise(2, 10));
    }
}
