//! Making blocks that others will take: a node passes its own block through the checks that others apply *before* its key
//! is spent on it (docs/protocol.md, section 4).
//!
//! # Why
//! A key signs one block on a parent, ever. A block that carries one thing that others refuse, which some seat or stranger
//! had smuggled into a pool, would use that up at every producer in turn, and the chain would stop for good. So what is
//! refused is found here, and the part that the refusal names is left out.

use podl_chain_spec::{AccountId, Hash32};

use super::build::Proposal;
use super::import::Prepared;
use super::{BlockParts, BuildError, Chain, Checked, UnsignedBlock};
use crate::execute::Executed;
use crate::rules::vote::{self, VoteError};
use crate::rules::{BlobSource, BlockError, ContextError, IsolationError, WorkDone, WorkJob, isolation};
use crate::signed::{BadSignature, Signature, Signed};
use crate::state::StateStore;
use crate::types::{
    Block, BlockHash, ClosingSet, ClosingSetError, Header, ListedClosing, Opening, Outcome, ShardKey, SignedHeader,
    SignedVote,
};
use crate::verified::Verified;
use crate::workload::WorkVerifier;

/// How often a block is built at most: once as it is, three times without the part that was refused, once without
/// transactions and certificate, once without votes too.
const BUILDS: usize = 6;
/// Builds that leave out only what was named.
const NAMED_BUILDS: usize = 4;

/// Stands where a signature will.
const NONE: Signature = Signature([0; 64]);

/// What a block says became of the round.
#[derive(Clone, Debug)]
pub enum Claim {
    /// A model of the producer's, opened.
    Scored {
        /// Closings that list its commitment, of a majority or more.
        closings: Vec<Verified<ListedClosing>>,
        /// The opening.
        opening: Opening,
        /// Key of the round's shard; none for filler.
        key: Option<ShardKey>,
    },
    /// No key came.
    Void {
        /// Closings of a majority or more.
        closings: Vec<Verified<ListedClosing>>,
    },
    /// Nobody won.
    Idle {
        /// Key of the round's shard, if the round is spent.
        key: Option<ShardKey>,
    },
}

impl Claim {
    fn closings_mut(&mut self) -> Option<&mut Vec<Verified<ListedClosing>>> {
        match self {
            Self::Scored { closings, .. } | Self::Void { closings } => Some(closings),
            Self::Idle { .. } => None,
        }
    }

    fn outcome(&self) -> Outcome {
        let set = |closings: &[Verified<ListedClosing>]| ClosingSet::new(closings.iter().map(|closing| &**closing));
        match self {
            Self::Scored { closings, opening, key } => {
                Outcome::Scored { closings: set(closings), opening: opening.clone(), key: *key }
            }
            Self::Void { closings } => Outcome::Void { closings: set(closings) },
            Self::Idle { key } => Outcome::Idle { key: *key },
        }
    }
}

/// Why no block that others would take could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It could not even be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Others would refuse all that was built.
    #[error("others would refuse it, whatever is left out: {0}")]
    Refused(BlockError),
}

/// A block of this node's own that keeps every rule but perhaps those of the work, and lacks its signature.
#[derive(Clone, Debug)]
pub struct Proposed {
    unsigned: UnsignedBlock,
    executed: Executed,
    job: Option<WorkJob>,
    refused: Vec<BlockError>,
}

impl Proposed {
    /// What is to be signed.
    pub fn unsigned(&self) -> &UnsignedBlock {
        &self.unsigned
    }

    /// The work to check; `None` when it claims none.
    pub fn job(&self) -> Option<&WorkJob> {
        self.job.as_ref()
    }

    /// What others would have refused, and is left out.
    pub fn refused(&self) -> &[BlockError] {
        &self.refused
    }

    /// A block that claims no work is checked as it stands.
    ///
    /// # Errors
    /// The block, when its work is still to be checked.
    pub fn without_work(self) -> Result<CheckedProposal, Box<Self>> {
        if self.job.is_some() { Err(Box::new(self)) } else { Ok(CheckedProposal { proposed: self, done: None }) }
    }

    /// Checks the work: the slow part, which may run on any thread.
    ///
    /// # Errors
    /// [`BlockError::Work`], or [`BlockError::NotAvailable`] when a blob is not here.
    pub fn check_work(
        self,
        blobs: &dyn BlobSource,
        verifier: &dyn WorkVerifier,
    ) -> Result<CheckedProposal, BlockError> {
        let done = self.job.as_ref().map(|job| job.run(blobs, verifier)).transpose()?;
        Ok(CheckedProposal { proposed: self, done })
    }
}

/// A block of this node's own that keeps every rule: the guard may be asked for the key.
#[derive(Clone, Debug)]
pub struct CheckedProposal {
    proposed: Proposed,
    done: Option<WorkDone>,
}

impl CheckedProposal {
    /// The header to be signed.
    pub fn header(&self) -> &Header {
        &self.proposed.unsigned.header
    }

    /// The block with its header signed: to be sent, and to be committed like any other.
    ///
    /// # Errors
    /// [`BadSignature`] when it is not this header's.
    pub fn signed(self, header: SignedHeader) -> Result<Checked, BadSignature> {
        let Proposed { unsigned, executed, job, .. } = self.proposed;
        let bad = BadSignature { signer: unsigned.header.producer };
        if header.message != unsigned.header {
            return Err(bad);
        }
        header.verify(&unsigned.header.chain)?;
        // Form and the signatures inside were checked before the header was signed, the header's just now.
        let block = std::sync::Arc::new(Verified::trusted(unsigned.with_header(header)));
        Ok(Prepared::new(block, executed, job).with_work(self.done))
    }
}

/// What a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Vote(AccountId),
    Certificate,
    Transaction(usize),
    Closing(AccountId),
    /// Closings that list a commitment of this owner.
    Owner(AccountId),
}

impl<S: StateStore> Chain<S> {
    /// Builds a block and checks it as others will; what they would refuse is left out.
    ///
    /// # Errors
    /// [`ProposeError`]: then this key must propose nothing on this parent.
    pub fn propose(
        &self,
        parent: BlockHash,
        producer: AccountId,
        view: u32,
        mut claim: Claim,
        mut parts: BlockParts,
    ) -> Result<Proposed, ProposeError> {
        let mut refused = Vec::new();
        loop {
            let proposal = Proposal { parent, producer, view, outcome: claim.outcome() };
            let UnsignedBlock { header, body, left_out } = self.build(proposal, parts.clone())?;
            let block = Block { header: Signed { message: header, signature: NONE }, body };
            match self.check_own(&block) {
                Ok((executed, job)) => {
                    let unsigned = UnsignedBlock { header: block.header.message, body: block.body, left_out };
                    return Ok(Proposed { unsigned, executed, job, refused });
                }
                Err(error) if refused.len() + 1 >= BUILDS => return Err(ProposeError::Refused(error)),
                Err(error) => {
                    refused.push(error);
                    leave_out(&self.chain, &mut claim, &mut parts, &refused, &block);
                }
            }
        }
    }

    /// Exactly what others check, but for the producer's signature, which is not there yet.
    fn check_own(&self, block: &Block) -> Result<(Executed, Option<WorkJob>), BlockError> {
        isolation::check_form_unsigned(&self.spec, &self.chain, block)?;
        isolation::check_signatures(&self.chain, block)?;
        self.check_block(block)
    }
}

/// Leaves out what the last refusal names; after three of them, or when it names nothing, everything that is not needed.
fn leave_out(chain: &Hash32, claim: &mut Claim, parts: &mut BlockParts, refused: &[BlockError], block: &Block) {
    let named = refused.last().map(named).unwrap_or_default();
    let builds = refused.len() + 1;
    if builds <= NAMED_BUILDS && !named.is_empty() {
        named.into_iter().for_each(|part| leave_out_part(chain, claim, parts, part, block));
        return;
    }
    // A block without these has nothing left that is not the producer's own, but for the closings.
    if !parts.transactions.is_empty() || parts.certificate.is_some() {
        parts.transactions.clear();
        parts.certificate = None;
    } else {
        parts.votes.clear();
    }
    if builds >= BUILDS {
        parts.votes.clear();
    }
}

fn leave_out_part(chain: &Hash32, claim: &mut Claim, parts: &mut BlockParts, part: Part, block: &Block) {
    match part {
        Part::Vote(seat) => {
            // Its vote on the parent may be good and the one in the certificate bad, or the other way round.
            let bad = |vote: &Verified<SignedVote>| {
                let stands = vote::check_form(&vote.message).is_ok() && vote.verify(chain).is_ok();
                vote.message.seat == seat && !stands
            };
            let certified = || parts.certificate.iter().flat_map(|certificate| &certificate.votes);
            let any_bad = parts.votes.iter().chain(certified()).any(bad);
            let goes = |vote: &Verified<SignedVote>| vote.message.seat == seat && (!any_bad || bad(vote));
            parts.votes.retain(|vote| !goes(vote));
            if let Some(certificate) = &mut parts.certificate {
                certificate.votes.retain(|vote| !goes(vote));
            }
        }
        Part::Certificate => parts.certificate = None,
        Part::Transaction(index) => {
            let id = block.body.transactions.get(index).map(|transaction| transaction.message.id());
            parts.transactions.retain(|transaction| Some(transaction.message.id()) != id);
        }
        Part::Closing(seat) => {
            let closings = claim.closings_mut().into_iter();
            closings.for_each(|closings| closings.retain(|listed| listed.closing.message.seat != seat));
        }
        Part::Owner(owner) => {
            let lists = |listed: &ListedClosing| listed.list.0.iter().any(|c| c.message.owner == owner);
            let closings = claim.closings_mut().into_iter();
            closings.for_each(|closings| closings.retain(|listed| !lists(listed)));
        }
    }
}

/// The parts of a block that a refusal names.
fn named(error: &BlockError) -> Vec<Part> {
    match error {
        BlockError::Isolation(error) => named_by_form(error),
        BlockError::Context(error) => match error {
            ContextError::Voter { voter, .. } | ContextError::VoteJustified { voter, .. } => vec![Part::Vote(*voter)],
            ContextError::CertificateTarget { .. } | ContextError::CertificateQuorum { .. } => vec![Part::Certificate],
            ContextError::ClosingSeat { seat } => vec![Part::Closing(*seat)],
            ContextError::Transaction { index, .. } => vec![Part::Transaction(*index)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn named_by_form(error: &IsolationError) -> Vec<Part> {
    match error {
        IsolationError::Vote(VoteError::ReadyFlags { seat }) | IsolationError::VoteTarget { seat, .. } => {
            vec![Part::Vote(*seat)]
        }
        IsolationError::Vote(VoteError::Signature(bad)) | IsolationError::VoteSignature(bad) => {
            vec![Part::Vote(bad.signer)]
        }
        IsolationError::List { seat, .. } | IsolationError::NotListed { seat } => vec![Part::Closing(*seat)],
        IsolationError::ClosingForm(ClosingSetError::Bitmap { seat, .. }) => vec![Part::Closing(*seat)],
        IsolationError::ClosingSignature(bad) => vec![Part::Closing(bad.signer)],
        IsolationError::CommitmentSignature(bad) => vec![Part::Owner(bad.signer)],
        IsolationError::Transaction { index, .. } | IsolationError::TransactionSignature { index, .. } => {
            vec![Part::Transaction(*index)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{Harness, account, signing_key, small_spec};
    use crate::types::{Commitment, Payment, SignedTransaction, TransactionKind};
    use podl_chain_spec::Amount;

    fn harness() -> Harness {
        Harness::new(small_spec(4, 24))
    }

    /// Proposes on a parent, has the work checked, signs, and imports what came of it in a second chain, as others do.
    fn proposed(h: &Harness, parent: BlockHash, view: u32, claim: Claim, parts: BlockParts) -> (Block, usize) {
        let producer = match &claim {
            Claim::Scored { .. } => account(10),
            _ => h.interval(parent).fallback_producer(view).unwrap(),
        };
        let proposed = h.chain.propose(parent, producer, view, claim, parts).expect("a block that others take");
        let refused = proposed.refused().len();
        let checked = proposed.check_work(&h.blobs, h.verifier()).expect("its work stands");
        let header = Signed::new(checked.header().clone(), &h.chain.chain_hash(), h.key_of(&producer));
        let block = checked.signed(header).expect("its signature").block().as_ref().clone().into_inner();
        h.chain.prepare_import(h.chain.verify(block.clone()).expect("form")).expect("others take it");
        (block, refused)
    }

    fn idle(h: &Harness, parent: BlockHash, parts: BlockParts) -> (Block, usize) {
        proposed(h, parent, 0, Claim::Idle { key: None }, parts)
    }

    fn trusted<T: Clone>(values: &[Signed<T>]) -> Vec<Verified<Signed<T>>> {
        values.iter().cloned().map(Verified::trusted).collect()
    }

    fn pay(h: &Harness, sender: u64) -> SignedTransaction {
        let payment = Payment { to: account(20), amount: Amount(5) };
        h.transaction(sender, 0, TransactionKind::Transfer(payment)).into_inner()
    }

    #[test]
    fn a_calm_block_is_built_once() {
        let mut h = harness();
        let one = h.advance(h.genesis(), 10, 40, vec![]);
        let (block, refused) = idle(&h, one, h.parts(one));
        assert_eq!((block.body.votes.len(), refused), (4, 0));
    }

    #[test]
    fn a_vote_that_others_refuse_is_left_out_and_the_others_stay() {
        let mut h = harness();
        let one = h.advance(h.genesis(), 10, 40, vec![]);
        let good: Vec<SignedVote> = h.votes(one, &[]).into_iter().map(Verified::into_inner).collect();
        let task = Hash32([5; 32]);
        let twice = h.vote(&account(1), one, &[task, task]).into_inner();
        let mut forged = good[2].clone();
        forged.signature = Signature([3; 64]);
        for bad in [twice, forged] {
            let votes: Vec<_> =
                good.iter().filter(|v| v.message.seat != bad.message.seat).chain([&bad]).cloned().collect();
            let (block, refused) = idle(&h, one, BlockParts { votes: trusted(&votes), ..BlockParts::default() });
            assert_eq!((block.body.votes.len(), refused), (3, 1));
        }
    }

    #[test]
    fn a_certificate_with_a_bad_vote_goes_on_without_it() {
        let mut h = harness();
        let one = h.advance(h.genesis(), 10, 40, vec![]);
        let silent = h.idle(one, 0, None, BlockParts::default());
        let silent = h.import(silent).unwrap().hash;
        let mut votes: Vec<SignedVote> = h.votes(one, &[]).into_iter().map(Verified::into_inner).collect();
        votes[0].signature = Signature([3; 64]);
        let certificate = |votes: &[SignedVote]| Some(Harness::certificate(trusted(votes)));
        let (block, refused) = idle(&h, silent, BlockParts { certificate: certificate(&votes), ..h.parts(silent) });
        assert_eq!(
            (block.body.certificate.map(|c| c.votes.len()), refused),
            (Some(3), 1),
            "three of four are a quorum"
        );
        votes[1].signature = Signature([3; 64]);
        let (block, refused) = idle(&h, silent, BlockParts { certificate: certificate(&votes), ..h.parts(silent) });
        assert_eq!((block.body.certificate, refused), (None, 2));
        assert_eq!(block.body.votes.len(), 4, "the votes on the parent stay");
    }

    #[test]
    fn a_forged_transaction_is_left_out_and_those_that_stand_alone_stay() {
        let mut h = harness();
        let one = h.advance(h.genesis(), 10, 40, vec![]);
        let other = Verified::trusted(pay(&h, 7));
        let mut forged = pay(&h, 6);
        forged.signature = Signature([3; 64]);
        let transactions = vec![Verified::trusted(forged), other];
        let (block, refused) = idle(&h, one, BlockParts { transactions, ..h.parts(one) });
        assert_eq!((block.body.transactions.len(), block.body.votes.len(), refused), (1, 4, 1));
    }

    #[test]
    fn after_three_named_parts_everything_that_is_not_needed_goes() {
        let mut h = harness();
        let one = h.advance(h.genesis(), 10, 40, vec![]);
        let forged: Vec<_> = (4..10)
            .map(|sender| SignedTransaction { signature: Signature([3; 64]), ..pay(&h, sender) })
            .map(Verified::trusted)
            .collect();
        let (block, refused) = idle(&h, one, BlockParts { transactions: forged.clone(), ..h.parts(one) });
        assert_eq!((block.body.transactions.len(), block.body.votes.len(), refused), (0, 4, 4));
        let votes = h.votes(one, &[]).into_iter().map(Verified::into_inner);
        let votes: Vec<_> = votes.map(|vote| SignedVote { signature: Signature([3; 64]), ..vote }).collect();
        let parts = BlockParts { transactions: forged, votes: trusted(&votes), ..BlockParts::default() };
        let (block, refused) = idle(&h, one, parts);
        assert_eq!((block.body.transactions.len(), block.body.votes.len(), refused), (0, 0, 5), "the sixth build");
    }

    /// Closings of these seats, of which `bad` lists a commitment that its owner did not sign.
    fn closings(h: &mut Harness, seats: u64, bad: &[u64]) -> (Vec<Verified<ListedClosing>>, Opening) {
        let genesis = h.genesis();
        let (own, other) = (h.commit(genesis, 10, 40), h.commit(genesis, 11, 30));
        let message = Commitment { owner: account(12), ..other.commitment.message };
        let forged = Signed { message, signature: Signature([3; 64]) };
        let close = |seat: u64| {
            let extra = bad.contains(&seat).then(|| forged.clone());
            let list = crate::types::ClosingList::new([own.commitment.clone()].into_iter().chain(extra));
            let closing = crate::types::Closing { parent: genesis, seat: account(seat), list_root: list.root() };
            let closing = Signed::new(closing, &h.chain.chain_hash(), &signing_key(seat));
            Verified::trusted(ListedClosing { closing, list })
        };
        ((0..seats).map(close).collect(), own.opening)
    }

    #[test]
    fn a_scored_block_drops_a_closing_only_by_choosing_others() {
        let mut h = harness();
        let genesis = h.genesis();
        let (lists, opening) = closings(&mut h, 4, &[2]);
        let claim = Claim::Scored { closings: lists, opening, key: None };
        let (block, refused) = proposed(&h, genesis, 0, claim, BlockParts::default());
        let Outcome::Scored { closings: set, .. } = block.body.outcome else { panic!("scored") };
        assert_eq!((set.closings.len(), set.union.len(), refused), (3, 1, 1));
        // Without a majority of good ones there is no block, and the key is not spent.
        let (lists, opening) = closings(&mut h, 4, &[1, 2]);
        let claim = Claim::Scored { closings: lists, opening, key: None };
        let error = h.chain.propose(genesis, account(10), 0, claim, BlockParts::default()).unwrap_err();
        assert!(matches!(error, ProposeError::Refused(BlockError::Context(ContextError::ClosingMajority { .. }))));
    }

    #[test]
    fn a_header_that_was_signed_by_another_is_not_taken_for_it() {
        let h = harness();
        let producer = h.interval(h.genesis()).fallback_producer(0).unwrap();
        let propose = || {
            let proposed = h.chain.propose(h.genesis(), producer, 0, Claim::Idle { key: None }, BlockParts::default());
            proposed.unwrap().check_work(&h.blobs, h.verifier()).unwrap()
        };
        let header = propose().header().clone();
        let forged = Signed { message: header.clone(), signature: Signature([3; 64]) };
        assert!(propose().signed(forged).is_err());
        let other = Header { time_ms: header.time_ms + 1, ..header };
        let other = Signed::new(other, &h.chain.chain_hash(), h.key_of(&producer));
        assert!(propose().signed(other).is_err());
    }
}
