//! The chain specification: every number of the protocol, with its unit, source and reason.

use serde::{Deserialize, Serialize};

use crate::{AccountId, Amount, Caps, Hash32};

/// A whole chain specification, as read from TOML. Everything but `network` is consensus-critical and enters the
/// genesis hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    /// Name of the chain, 1 to 32 characters of `a-z0-9-`.
    pub name: String,
    /// How long the phases of an interval last.
    pub phases: Phases,
    /// Sizes of lists, blocks and messages.
    pub limits: Limits,
    /// Who votes, and how seats are won and lost.
    pub seats: Seats,
    /// Fees, burns and subsidies.
    pub money: Money,
    /// How tasks are opened, ranked and retired.
    pub tasks: Tasks,
    /// Upper limits on what a task may ask of every node.
    pub caps: Caps,
    /// The task that runs when nobody published one.
    pub filler: Filler,
    /// Versions of consensus-critical code.
    pub versions: Versions,
    /// The first state.
    pub genesis: Genesis,
    /// Where a new node finds its first peers. Not part of the genesis hash.
    #[serde(default)]
    pub network: NetworkHints,
}

/// Durations of the phases of an interval, on each node's own monotonic clock (docs/protocol.md, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Phase 1: nodes fetch the task, miners set up (paper, 3.2.1).
    pub init_ms: u64,
    /// Phase 2: training (paper, 3.2.1). Miners commit some seconds before it ends.
    pub train_ms: u64,
    /// After phase 2: how long seats wait for closings of a majority before they fall back.
    pub close_ms: u64,
    /// After the closings: how long seats wait for the publisher's key before they fall back.
    pub release_ms: u64,
    /// Phase 3a: how long candidates are taken after the key is known.
    pub reveal_ms: u64,
    /// Phase 3b: how long seats check candidates before they vote at the latest.
    pub validate_ms: u64,
    /// One view of the fallback: how long the next fallback producer waits for the one before.
    pub view_ms: u64,
    /// A block further ahead of a node's own clock than this is set aside, never rejected.
    pub ahead_ms: u64,
}

/// Sizes of lists, blocks and messages. Each bounds memory that a stranger can make a node use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most commitments in one seat's closing.
    pub list_cap: u32,
    /// Most commitments of one owner in one interval.
    pub commitments_per_owner: u8,
    /// Most bytes of an encoded block.
    pub block_bytes: u32,
    /// Most bytes of an encoded transaction.
    pub transaction_bytes: u32,
    /// Most transactions of a block.
    pub block_transactions: u32,
    /// Most payments in a batch payout.
    pub batch_payments: u32,
    /// Most heights that artefacts and shards are kept after their block.
    pub retain_blocks: u64,
}

/// Who votes, and how seats are won and lost (docs/protocol.md, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seats {
    /// W: most seats. Above it the oldest leaves.
    pub window: u8,
    /// Absent seats are never dropped below this many.
    pub min_seats: u8,
    /// A seat with no vote included for this many heights of a branch is dropped.
    pub absent_out: u64,
    /// What a winner locks for a seat.
    pub seat_bond: Amount,
    /// Heights for which rewards and the bonds of seats that left stay locked.
    pub unbond_intervals: u64,
}

/// Fees, burns and subsidies (docs/protocol.md, section 7), in the smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Hundredths of a round's reward that are burned when the round is spent.
    pub burn_percent: u8,
    /// Least burn of a spent round.
    pub burn_min: Amount,
    /// Hundredths of the burn that the winner gets on top as new money. At most 50, so that paying oneself loses.
    pub subsidy_percent: u8,
    /// New money for the winner of a filler interval.
    pub filler_subsidy: Amount,
    /// Least reward of a round. At least four filler subsidies.
    pub min_reward: Amount,
    /// Least fee of a commitment; otherwise reward / list_cap.
    pub commitment_fee_min: Amount,
    /// New money for each vote a block carries; an eighth of it goes to the block's producer.
    pub vote_pay: Amount,
    /// Least fee of a transaction, per encoded byte.
    pub fee_per_byte: Amount,
}

/// How tasks are opened, ranked and retired (docs/protocol.md, section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// Intervals of waiting that halve a task's ranking score.
    pub aging_intervals: u64,
    /// Heights after which a task that never opened gets its escrow back.
    pub open_timeout: u64,
    /// Most tasks that are pending or open at one time.
    pub live_tasks: u32,
    /// Difficulty of one byte of data, in multiply-accumulates.
    pub byte_weight: u64,
}

/// The filler task: the same workload on a generated data set, public from the start (docs/protocol.md, section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filler {
    /// Convolution layers of its search space, which is the full space of the paper.
    pub conv_layers: u8,
    /// Most LUTs of a feasible network.
    pub lut: u64,
    /// A feasible network is faster than this, in images a second.
    pub throughput: u64,
    /// Images of the generated shard on which candidates are scored.
    pub shard_images: u32,
}

/// Versions of the consensus-critical code that nodes of this chain run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Block, transaction and message formats, and the rules over them.
    pub protocol: u16,
    /// Integer engine and artefact format.
    pub engine: u16,
    /// FPGA cost model.
    pub cost_model: u16,
    /// Generator of the filler data.
    pub generator: u16,
}

/// The first state of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Milliseconds since 1970 (UTC) of the genesis block.
    pub time_ms: u64,
    /// Free text that makes the hash unique.
    pub message: String,
    /// First balances.
    pub accounts: Vec<GenesisAccount>,
    /// First seats, oldest first. Their bonds come on top of the balances.
    pub seats: Vec<AccountId>,
}

/// A first balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Who.
    pub account: AccountId,
    /// How much, in the smallest unit.
    pub balance: Amount,
}

/// Where a new node finds its first peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkHints {
    /// Multiaddresses that end in `/p2p/PEER-ID`.
    #[serde(default)]
    pub bootnodes: Vec<String>,
    /// Whether nodes look for each other on the local network.
    #[serde(default)]
    pub mdns: bool,
}

/// The part of the specification that consensus depends on, in the order in which it is hashed.
#[derive(Serialize)]
struct ConsensusPart<'a>(
    &'a str,
    &'a Phases,
    &'a Limits,
    &'a Seats,
    &'a Money,
    &'a Tasks,
    &'a Caps,
    &'a Filler,
    &'a Versions,
    &'a Genesis,
);

impl ChainSpec {
    /// Hash of the canonical consensus part; it identifies the chain and enters every signature.
    pub fn genesis_hash(&self) -> Hash32 {
        let part = ConsensusPart(
            &self.name,
            &self.phases,
            &self.limits,
            &self.seats,
            &self.money,
            &self.tasks,
            &self.caps,
            &self.filler,
            &self.versions,
            &self.genesis,
        );
        let mut hasher = blake3::Hasher::new_derive_key("podl v1 chain specification");
        // Plain structs of integers, strings and lists: postcard cannot fail on them when writing to memory.
        let bytes = postcard::to_stdvec(&part).unwrap_or_default();
        hasher.update(&bytes);
        Hash32(*hasher.finalize().as_bytes())
    }

    /// Least length of an interval that carries a model, in milliseconds: a child's time is at least this much later.
    pub fn min_interval_ms(&self) -> u64 {
        self.phases.init_ms + self.phases.train_ms
    }

    /// Sum of the first balances and the bonds of the first seats. Checked not to overflow when the spec was loaded.
    pub fn genesis_supply(&self) -> Amount {
        let bonds = self.seats.seat_bond.0 * self.genesis.seats.len() as u64;
        Amount(self.genesis.accounts.iter().map(|a| a.balance.0).sum::<u64>() + bonds)
    }
}
