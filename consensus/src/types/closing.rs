//! Closings: a seat fixes which commitments it saw in time, before it saw the shard's key.

use std::collections::BTreeMap;

use podl_chain_spec::{AccountId, Hash32};
use serde::{Deserialize, Serialize};

use super::{BlockHash, Commitment};
use crate::hash::{Domain, hash_bytes};
use crate::signed::{Signable, Signature, Signed};

/// One seat's closing of one interval. A seat signs at most one per parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The block that the interval builds on.
    pub parent: BlockHash,
    /// Who closes.
    pub seat: AccountId,
    /// [`ClosingList::root`] of what it lists.
    pub list_root: Hash32,
}

impl Signable for Closing {
    const DOMAIN: Domain = Domain::Closing;

    fn signer(&self) -> AccountId {
        self.seat
    }
}

/// The commitments of one closing, sorted by [`Commitment::hash`] and distinct.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClosingList(pub Vec<Signed<Commitment>>);

impl ClosingList {
    /// A list in its one order, without repeats.
    pub fn new(commitments: impl IntoIterator<Item = Signed<Commitment>>) -> Self {
        let sorted: BTreeMap<Hash32, _> = commitments.into_iter().map(|c| (c.message.hash(), c)).collect();
        Self(sorted.into_values().collect())
    }

    /// Root that the seat signs.
    pub fn root(&self) -> Hash32 {
        list_root(self.0.iter().map(|c| c.message.hash()))
    }

    /// Whether the list is sorted and has no repeats.
    pub fn is_sorted(&self) -> bool {
        self.0.is_sorted_by(|a, b| a.message.hash() < b.message.hash())
    }
}

/// A closing as it travels alone: with the list that its seat signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedClosing {
    /// The signed closing.
    pub closing: Signed<Closing>,
    /// What it lists.
    pub list: ClosingList,
}

/// Hash over the commitments' hashes in order.
fn list_root(hashes: impl Iterator<Item = Hash32>) -> Hash32 {
    let bytes: Vec<u8> = hashes.flat_map(|h| h.0).collect();
    hash_bytes(Domain::CommitmentList, &bytes)
}

/// A closing as it travels in a block: the list is a bitmap over the block's union of commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatClosing {
    /// Who closed.
    pub seat: AccountId,
    /// Bit i (byte i/8, bit i%8) says that the seat listed commitment i of the union. Unused bits are 0.
    pub listed: Vec<u8>,
    /// Over the [`Closing`] that seat, parent and list make.
    pub signature: Signature,
}

/// Closings of several seats on one parent: every commitment and its signature stands once.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClosingSet {
    /// All commitments that any of the closings lists, sorted by [`Commitment::hash`], distinct.
    pub union: Vec<Signed<Commitment>>,
    /// Sorted by seat, distinct.
    pub closings: Vec<SeatClosing>,
}

/// Why a set of closings is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosingSetError {
    /// The union is not sorted, or has repeats.
    #[error("the union of commitments is not sorted and distinct")]
    UnionOrder,
    /// The closings are not sorted by seat, or one seat closes twice.
    #[error("the closings are not sorted by seat and distinct")]
    SeatOrder,
    /// A bitmap does not fit the union.
    #[error("the bitmap of {seat:?} does not fit a union of {union} commitments")]
    Bitmap {
        /// Whose bitmap.
        seat: AccountId,
        /// Length of the union.
        union: usize,
    },
    /// A commitment of the union is listed by nobody.
    #[error("commitment {index} of the union is listed by no closing")]
    Unlisted {
        /// Place in the union.
        index: usize,
    },
}

impl ClosingSet {
    /// The set of some closings and their lists; each seat once (the first is kept).
    pub fn new<'a>(closings: impl IntoIterator<Item = &'a ListedClosing>) -> Self {
        let mut seats = BTreeMap::new();
        let mut union = BTreeMap::new();
        for ListedClosing { closing, list } in closings {
            let seat = closing.message.seat;
            if seats.contains_key(&seat) {
                continue;
            }
            let hashes: Vec<Hash32> = list.0.iter().map(|c| c.message.hash()).collect();
            union.extend(hashes.iter().copied().zip(list.0.iter().cloned()));
            seats.insert(seat, (hashes, closing.signature));
        }
        let place: BTreeMap<Hash32, usize> = union.keys().enumerate().map(|(i, h)| (*h, i)).collect();
        let closings = seats
            .into_iter()
            .map(|(seat, (hashes, signature))| {
                let mut listed = vec![0; place.len().div_ceil(8)];
                for i in hashes.iter().filter_map(|h| place.get(h)) {
                    listed[i / 8] |= 1 << (i % 8);
                }
                SeatClosing { seat, listed, signature }
            })
            .collect();
        Self { union: union.into_values().collect(), closings }
    }

    /// Checks everything about the form of the set; signatures and seats are for the caller.
    ///
    /// # Errors
    /// [`ClosingSetError`].
    pub fn check_form(&self) -> Result<(), ClosingSetError> {
        let hashes: Vec<Hash32> = self.union.iter().map(|c| c.message.hash()).collect();
        if !hashes.is_sorted_by(|a, b| a < b) {
            return Err(ClosingSetError::UnionOrder);
        }
        if !self.closings.is_sorted_by(|a, b| a.seat < b.seat) {
            return Err(ClosingSetError::SeatOrder);
        }
        let union = self.union.len();
        let mut any = vec![0u8; union.div_ceil(8)];
        for closing in &self.closings {
            let spare = closing.listed.last().filter(|_| !union.is_multiple_of(8)).map_or(0, |b| b >> (union % 8));
            if closing.listed.len() != any.len() || spare != 0 {
                return Err(ClosingSetError::Bitmap { seat: closing.seat, union });
            }
            any.iter_mut().zip(&closing.listed).for_each(|(a, b)| *a |= b);
        }
        let unlisted = (0..union).find(|i| any[i / 8] & (1 << (i % 8)) == 0);
        unlisted.map_or(Ok(()), |index| Err(ClosingSetError::Unlisted { index }))
    }

    /// The closing that `closing` stands for, as it was signed. Call after [`Self::check_form`].
    pub fn expand(&self, parent: BlockHash, closing: &SeatClosing) -> ListedClosing {
        let list = ClosingList(self.listed(closing).cloned().collect());
        let message = Closing { parent, seat: closing.seat, list_root: list.root() };
        ListedClosing { closing: Signed { message, signature: closing.signature }, list }
    }

    /// The commitments that a closing lists, in order.
    pub fn listed<'a>(&'a self, closing: &'a SeatClosing) -> impl Iterator<Item = &'a Signed<Commitment>> + Clone {
        self.union.iter().enumerate().filter(|(i, _)| bit(closing, *i)).map(|(_, c)| c)
    }

    /// How many of the closings list commitment `index` of the union.
    pub fn times_listed(&self, index: usize) -> usize {
        self.closings.iter().filter(|c| bit(c, index)).count()
    }
}

fn bit(closing: &SeatClosing, index: usize) -> bool {
    closing.listed.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
}
