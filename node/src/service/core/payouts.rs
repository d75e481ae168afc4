//! What a pool that this node manages owes its miners: written down when a block is final, signed when the account can
//! pay it, and sent until it is final itself.
//!
//! # Correctness
//! A payout is paid at most once. The signed transaction is on disk before it leaves, and the same bytes are sent again
//! after a restart; it is signed anew only when another transaction with its nonce is final, so that it can never be
//! included any more. A share list that is handed over twice is one payout.

use std::collections::BTreeMap;

use podl_chain_spec::Hash32;
use podl_consensus::codec;
use podl_consensus::execute::cost;
use podl_consensus::types::{BlockHash, Height, SignedTransaction, TransactionKind};
use podl_pool::ledger::ShareList;
use podl_rpc::types::{PayoutView, TxState};
use podl_storage::{Aux, Database, StorageError};
use serde::{Deserialize, Serialize};

use super::own::{ROW_BYTES, load_with};
use super::payouts_before::PayoutBefore;
use super::{Core, CoreError, SendError};
use podl_engine::wire::Gossip;

/// Payouts that are kept after they were paid, so that miners can look theirs up.
const KEPT: usize = 256;

/// How far a payout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Not signed: the account cannot pay it yet.
    Due,
    /// Signed and sent.
    Sent(Box<SignedTransaction>),
    /// In a final block.
    Paid(Hash32),
}

/// The payout of one won block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Height of the block.
    pub(super) height: Height,
    /// Who gets what.
    pub(super) list: ShareList,
    pub(super) step: Step,
}

impl Payout {
    fn view(&self) -> PayoutView {
        let tx = match &self.step {
            Step::Due => None,
            Step::Sent(signed) => Some(signed.message.id()),
            Step::Paid(id) => Some(*id),
        };
        let row = |row: &podl_pool::ledger::ShareRow| (row.account, row.macs, row.amount);
        PayoutView {
            block: self.list.block,
            height: self.height,
            tx,
            is_final: matches!(self.step, Step::Paid(_)),
            shares_root: self.list.root(),
            reward: self.list.reward,
            fee: self.list.fee,
            payments: self.list.rows.iter().map(row).collect(),
        }
    }
}

/// All payouts that are due, under way, or were made lately.
#[derive(Debug, Default)]
pub(super) struct Payouts {
    rows: BTreeMap<BlockHash, Payout>,
    /// Whether the operator was told that money is missing.
    is_short: bool,
}

impl Payouts {
    pub fn load(db: &Database) -> Result<Self, StorageError> {
        Ok(Self { rows: load_with(db, Aux::Payouts, "payouts", decode)?, is_short: false })
    }
}

/// A row of this program or of one before it, which kept no height in the list.
pub(super) fn decode(row: &[u8]) -> Option<Payout> {
    let now = codec::decode::<Payout>(row, ROW_BYTES).ok().filter(|payout| payout.list.height == payout.height);
    now.or_else(|| codec::decode::<PayoutBefore>(row, ROW_BYTES).ok().map(Payout::from))
}

impl Core {
    /// Takes over the payout of a final block. Handing it over again changes nothing.
    ///
    /// # Errors
    /// [`CoreError`] when the disk fails.
    pub fn pay_shares(&mut self, list: ShareList) -> Result<(), CoreError> {
        // A pool whose only miner is the manager's own owes nothing.
        let own = self.signer.as_ref().map(|signer| signer.account());
        let owes = own.is_some_and(|own| list.batch(&own).is_some());
        if !owes || self.payouts.rows.contains_key(&list.block) {
            return Ok(());
        }
        let height = list.height;
        self.keep_payout(Payout { height, list, step: Step::Due })?;
        self.forget_old_payouts()?;
        self.follow_payouts()
    }

    /// The latest payouts, newest first.
    pub fn payouts(&self, limit: usize) -> Vec<PayoutView> {
        let mut rows: Vec<&Payout> = self.payouts.rows.values().collect();
        rows.sort_by_key(|payout| std::cmp::Reverse((payout.height, payout.list.block)));
        rows.into_iter().take(limit).map(Payout::view).collect()
    }

    /// The share list of a block whose payout is known here.
    pub fn share_list(&self, block: &BlockHash) -> Option<ShareList> {
        self.payouts.rows.get(block).map(|payout| payout.list.clone())
    }

    /// Signs what can be paid, sends again what is on no chain, notes what is final.
    pub(super) fn follow_payouts(&mut self) -> Result<(), CoreError> {
        let mut open: Vec<Payout> =
            self.payouts.rows.values().filter(|p| !matches!(p.step, Step::Paid(_))).cloned().collect();
        // In the order of their blocks: nonces are handed out in it.
        open.sort_by_key(|payout| (payout.height, payout.list.block));
        for payout in open {
            match &payout.step {
                Step::Due => self.sign_payout(payout)?,
                Step::Sent(signed) => {
                    let signed = signed.as_ref().clone();
                    self.follow_payout(payout, signed)?;
                }
                Step::Paid(_) => {}
            }
        }
        Ok(())
    }

    fn sign_payout(&mut self, payout: Payout) -> Result<(), CoreError> {
        let Some(manager) = self.signer.as_ref().map(|signer| signer.account()) else { return Ok(()) };
        let Some(batch) = payout.list.batch(&manager) else { return Ok(()) };
        let signed = match self.sign_own(TransactionKind::BatchPayout(batch), None) {
            Ok(signed) => signed,
            Err(SendError::Core(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(height = payout.height, %error, "a payout cannot be signed");
                return Ok(());
            }
        };
        let (have, need) = (self.spendable(&manager), cost(&signed.message));
        if need.is_none_or(|need| have < need) {
            if !std::mem::replace(&mut self.payouts.is_short, true) {
                let need = need.unwrap_or_default();
                tracing::warn!(height = payout.height, %need, %have, "a payout waits until the account can pay it: rewards unlock later, or send it money");
            }
            return Ok(());
        }
        self.payouts.is_short = false;
        let miners = payout.list.rows.len();
        tracing::info!(height = payout.height, miners, transaction = %signed.message.id().short(), "paying the pool's miners");
        self.keep_payout(Payout { step: Step::Sent(Box::new(signed.clone())), ..payout })?;
        self.resend(signed);
        Ok(())
    }

    fn follow_payout(&mut self, payout: Payout, signed: SignedTransaction) -> Result<(), CoreError> {
        let id = signed.message.id();
        match self.transaction(&id)?.state {
            TxState::Final => self.keep_payout(Payout { step: Step::Paid(id), ..payout }),
            TxState::Included | TxState::Waiting => Ok(()),
            TxState::Unknown => {
                if self.final_nonce(&signed)? > signed.message.nonce {
                    // Another transaction has its nonce for good.
                    return self.keep_payout(Payout { step: Step::Due, ..payout });
                }
                self.resend(signed);
                Ok(())
            }
        }
    }

    /// Nonce of the sender's next transaction in the last final state.
    fn final_nonce(&self, signed: &SignedTransaction) -> Result<u64, CoreError> {
        let Some(state) = self.view.chain.state(&self.finalised().block) else { return Ok(0) };
        Ok(state.account(&signed.message.sender)?.nonce)
    }

    fn resend(&mut self, signed: SignedTransaction) {
        match self.add_transaction(signed.clone()) {
            Ok(_) => self.publish(&Gossip::Transaction(signed)),
            // It is tried again.
            Err(error) => tracing::debug!(%error, "a payout is not taken into the mempool now"),
        }
    }

    fn keep_payout(&mut self, payout: Payout) -> Result<(), CoreError> {
        let mut batch = self.db.batch();
        batch.put_aux(Aux::Payouts, payout.list.block.as_bytes(), &codec::encode(&payout))?;
        self.db.commit(batch)?;
        self.payouts.rows.insert(payout.list.block, payout);
        Ok(())
    }

    /// Drops the oldest of those that were paid when there are many.
    fn forget_old_payouts(&mut self) -> Result<(), CoreError> {
        let paid = self.payouts.rows.values().filter(|p| matches!(p.step, Step::Paid(_)));
        let mut paid: Vec<(Height, BlockHash)> = paid.map(|p| (p.height, p.list.block)).collect();
        paid.sort_unstable();
        let many = paid.len().saturating_sub(KEPT);
        let mut batch = self.db.batch();
        for (_, block) in paid.iter().take(many) {
            self.payouts.rows.remove(block);
            batch.delete_aux(Aux::Payouts, block.as_bytes())?;
        }
        if many == 0 { Ok(()) } else { Ok(self.db.commit(batch)?) }
    }
}
