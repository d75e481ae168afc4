//! One good and one bad vector for every rule. The bad ones are good blocks with one thing changed and everything that
//! commits to it made anew, so that each fails by its own rule and no other.

mod context;
mod isolation;
mod mutations;
mod transaction;
mod work;

use podl_chain_spec::{AccountId, Amount, Hash32};

use super::{Blame, BlockError, HeaderError};
use crate::chain::BlockParts;
use crate::signed::Signed;
use crate::testkit::{Harness, Round, account, signing_key, small_spec};
use crate::types::{
    Block, BlockHash, Body, Certificate, ClosingSet, Header, Opening, Outcome, Payment, TaskId, TransactionKind,
};
use crate::verified::Verified;

/// A chain with an open task, and the block on which its first round can be won.
struct Fixture {
    h: Harness,
    task: TaskId,
    parent: BlockHash,
}

fn fixture() -> Fixture {
    let mut h = Harness::new(small_spec(4, 8));
    let (task, parent) = h.open_task(h.genesis(), 7, 3);
    Fixture { h, task, parent }
}

impl Fixture {
    /// A scored block of owner 4 on the task, with all votes, another's commitment and a transfer.
    fn scored(&mut self) -> Block {
        let rounds = [self.h.commit(self.parent, 4, 20), self.h.commit(self.parent, 5, 10)];
        self.scored_with(&rounds, 0)
    }

    fn scored_with(&mut self, rounds: &[Round], winner: usize) -> Block {
        let interval = self.h.interval(self.parent);
        let closings = self.h.closings(self.parent, &interval.seats, rounds);
        self.scored_closed(closings, rounds[winner].opening.clone(), rounds[winner].owner)
    }

    fn scored_closed(&mut self, closings: ClosingSet, opening: Opening, owner: u64) -> Block {
        let key = self.h.shard_key(&self.h.interval(self.parent));
        let payment = Payment { to: account(20), amount: Amount(5) };
        let transfer = self.h.transaction(6, 0, TransactionKind::Transfer(payment));
        let parts = BlockParts { transactions: vec![transfer], ..self.h.parts(self.parent) };
        let built = self.h.chain.build_scored(self.parent, account(owner), parts, closings, opening, key).unwrap();
        built.sign(&signing_key(owner))
    }

    fn filler(&mut self) -> Block {
        let genesis = self.h.genesis();
        let parts = self.h.parts(genesis);
        self.h.scored(genesis, 4, 50, parts)
    }

    fn void(&mut self) -> Block {
        let round = self.h.commit(self.parent, 4, 20);
        self.h.void(self.parent, 1, &[round], self.h.parts(self.parent))
    }

    fn idle(&self, with_key: bool) -> Block {
        let key = self.h.shard_key(&self.h.interval(self.parent)).filter(|_| with_key);
        self.h.idle(self.parent, 3, key, self.h.parts(self.parent))
    }

    /// A block that certifies its grandparent, whose votes its parent left out.
    fn certified(&mut self) -> Block {
        let silent = self.h.idle(self.parent, 0, None, BlockParts::default());
        let silent = self.h.import(silent).unwrap().hash;
        let certificate = Some(Harness::certificate(self.h.votes(self.parent, &[])));
        self.h.idle(silent, 0, None, BlockParts { certificate, ..self.h.parts(silent) })
    }

    /// A certificate as it stands in a block, of all votes for one.
    fn certificate(&self, block: BlockHash) -> Certificate {
        let Certificate { height, block, votes } = Harness::certificate(self.h.votes(block, &[]));
        Certificate { height, block, votes: votes.into_iter().map(Verified::into_inner).collect() }
    }

    /// Changes a block, makes body root and signature anew, and returns why it is refused.
    fn refused(&self, mut block: Block, change: impl FnOnce(&mut Header, &mut Body)) -> BlockError {
        change(&mut block.header.message, &mut block.body);
        block.header.message.body_root = block.body.root();
        let key = self.h.key_of(&block.header.message.producer);
        let block = Block { header: Signed::new(block.header.message, &self.h.chain.chain_hash(), key), ..block };
        self.judge(block)
    }

    fn judge(&self, block: Block) -> BlockError {
        let prepared = match self.h.chain.verify(block).and_then(|block| self.h.chain.prepare_import(block)) {
            Ok(prepared) => prepared,
            Err(error) => return error,
        };
        prepared.check_work(&self.h.blobs, &crate::testkit::FakeVerifier).expect_err("a bad vector was taken")
    }
}

fn closings_of(body: &mut Body) -> &mut ClosingSet {
    match &mut body.outcome {
        Outcome::Scored { closings, .. } | Outcome::Void { closings } => closings,
        Outcome::Idle { .. } => panic!("an idle block has no closings"),
    }
}

fn opening_of(body: &mut Body) -> &mut Opening {
    match &mut body.outcome {
        Outcome::Scored { opening, .. } => opening,
        _ => panic!("only scored blocks have an opening"),
    }
}

#[test]
fn the_good_vectors_are_taken() {
    let mut f = fixture();
    let mut fresh = Fixture { h: Harness::new(small_spec(4, 8)), ..fixture() };
    let filler = fresh.filler();
    fresh.h.import(filler).unwrap();
    let blocks = [f.scored(), f.void(), f.idle(false), f.idle(true), f.certified()];
    for block in blocks {
        let kind = block.header.message.kind;
        f.h.import(block).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn height_time_task_and_round_follow_from_the_parent() {
    let mut f = fixture();
    let block = f.scored();
    let least = block.header.message.time_ms;
    // Votes name the height below the header's, so a wrong height needs a block without them.
    let bare = f.h.idle(f.parent, 0, None, BlockParts::default());
    let height = bare.header.message.height;
    let error = f.refused(bare, |header, _| header.height += 1);
    assert_eq!(error, HeaderError::Height { got: height + 1, expected: height }.into());
    let error = f.refused(block.clone(), |header, _| header.time_ms -= 1);
    assert_eq!(error, HeaderError::Time { got: least - 1, least }.into());
    let idle = f.idle(false);
    let error = f.refused(idle.clone(), |header, _| header.task = Hash32([9; 32]));
    assert_eq!(error, HeaderError::Task { got: Hash32([9; 32]), expected: f.task }.into());
    let error = f.refused(idle, |header, _| header.round = 2);
    assert_eq!(error, HeaderError::Round { got: 2, expected: 1 }.into());
    assert_eq!(error.blame(), Blame::Producer);
}

#[test]
fn idle_blocks_keep_the_shortest_interval_too() {
    let f = fixture();
    let idle = f.idle(false);
    let least = idle.header.message.time_ms;
    let error = f.refused(idle, |header, _| header.time_ms = least - 1);
    assert_eq!(error, HeaderError::Time { got: least - 1, least }.into());
}

#[test]
fn blame_falls_on_whoever_can_be_proved_guilty() {
    let mut f = fixture();
    let block = f.scored();
    // Anybody can spoil a signature or a body in transit: the block's hash must stay acceptable.
    let mut spoiled = block.clone();
    spoiled.header.signature.0[0] ^= 1;
    let error = f.judge(spoiled);
    assert_eq!(error.blame(), Blame::Sender);
    let mut spoiled = block.clone();
    spoiled.body.votes.pop();
    let error = f.judge(spoiled);
    assert_eq!(error.blame(), Blame::Sender);
    let error = f.refused(block, |header, _| header.state_root = Hash32([1; 32]));
    assert_eq!(error.blame(), Blame::Producer);
}

fn stranger() -> AccountId {
    account(30)
}
