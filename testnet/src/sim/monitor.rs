//! Invariants and figures of a run.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Hash32};
use podl_consensus::state::Meta;
use podl_consensus::types::{Height, OutcomeKind, Vote};

/// Something that must not happen happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two blocks of one height are final.
    #[error("at {at_ms} ms node {node} calls {got} final at height {height}, {first} is")]
    Conflict {
        /// When.
        at_ms: u64,
        /// Which node.
        node: usize,
        /// At which height.
        height: Height,
        /// The second block.
        got: Hash32,
        /// The first.
        first: Hash32,
    },
    /// An honest seat signed two votes that exclude each other.
    #[error("at {at_ms} ms node {node} signed a vote at height {height} that an earlier one excludes")]
    Equivocation {
        /// When.
        at_ms: u64,
        /// Which node.
        node: usize,
        /// Height of the second vote.
        height: Height,
    },
    /// The guard or the rules refused what an honest node's machine asked for.
    #[error("at {at_ms} ms node {node} was refused: {what}")]
    Refused {
        /// When.
        at_ms: u64,
        /// Which node.
        node: usize,
        /// What, and why.
        what: String,
    },
    /// In calm a block was not final when its grandchild was valid.
    #[error("block {height} is valid and {final_height} is final, expected at least {expected}")]
    NotFinalInTime {
        /// Height of the grandchild.
        height: Height,
        /// What is final in its state.
        final_height: Height,
        /// Two less than its height.
        expected: Height,
    },
    /// Finality did not resume.
    #[error(
        "node {node}: final height {final_height}, expected above {expected}, head {head}, calm since {calm} heights"
    )]
    Stalled {
        /// Which node.
        node: usize,
        /// Its final height.
        final_height: Height,
        /// Highest head when calm returned.
        expected: Height,
        /// Its head's height.
        head: Height,
        /// Heights of the head since calm.
        calm: Height,
    },
}

/// What a run brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Hash over all that happened, in order.
    pub trace: Hash32,
    /// Highest final height of any honest node.
    pub final_height: Height,
    /// Highest head of any honest node.
    pub head_height: Height,
    /// Heights between a valid block on node 0 and the final one in its state, by how often.
    pub lag: BTreeMap<Height, u64>,
    /// Kinds of final blocks.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Heads since calm returned until every honest node saw finality go on.
    pub resumed_after: Option<Height>,
    /// Deliveries of messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Times that an honest node's interval moved to another branch.
    pub reorgs: u64,
    /// Equivocations that honest nodes proved.
    pub evidence: u64,
}

/// Watches a run.
#[derive(Debug, Default)]
pub struct Monitor {
    /// The report so far.
    pub report: Report,
    finals: BTreeMap<Height, Hash32>,
    votes: BTreeMap<AccountId, Vec<Vote>>,
    /// Highest honest head when calm returned.
    pub calm_head: Option<Height>,
}

impl Monitor {
    /// A node calls a block final.
    pub fn finalised(&mut self, at_ms: u64, node: usize, height: Height, block: Hash32, kind: OutcomeKind) {
        let kinds = match kind {
            OutcomeKind::Scored => "scored",
            OutcomeKind::Void => "void",
            OutcomeKind::Idle => "idle",
        };
        if !self.finals.contains_key(&height) {
            *self.report.kinds.entry(kinds).or_default() += 1;
        }
        let first = *self.finals.entry(height).or_insert(block);
        if first != block {
            self.report.violations.push(Violation::Conflict { at_ms, node, height, got: block, first });
        }
        self.report.final_height = self.report.final_height.max(height);
    }

    /// An honest node signed a vote.
    pub fn voted(&mut self, at_ms: u64, node: usize, vote: &Vote) {
        let earlier = self.votes.entry(vote.seat).or_default();
        let excludes = |a: &Vote| {
            a != vote
                && (a.height == vote.height
                    || (a.justified < vote.justified && vote.height < a.height)
                    || (vote.justified < a.justified && a.height < vote.height))
        };
        if earlier.iter().any(excludes) {
            let height = vote.height;
            self.report.violations.push(Violation::Equivocation { at_ms, node, height });
        }
        earlier.push(vote.clone());
    }

    /// A node found a block valid.
    pub fn imported(&mut self, node: usize, meta: &Meta, strict: bool) {
        if node == 0 {
            let lag = meta.height.saturating_sub(meta.finalised.height);
            *self.report.lag.entry(lag).or_default() += 1;
        }
        let expected = meta.height.saturating_sub(2);
        if strict && meta.finalised.height < expected {
            let (height, final_height) = (meta.height, meta.finalised.height);
            self.report.violations.push(Violation::NotFinalInTime { height, final_height, expected });
        }
    }
}
