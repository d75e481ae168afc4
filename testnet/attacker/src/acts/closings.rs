//! Attacks with closings.

use std::time::Instant;

use podl_chain_spec::Hash32;
use podl_consensus::types::{BlockHash, ClosingList, Height, ListedClosing};
use podl_engine::wire::{Gossip, IntervalMessages, SyncRequest, SyncResponse};

use super::VOLLEY;
use crate::attacker::Attacker;
use crate::conduct::{Answer, Conduct};
use crate::forge::{Place, Signer, unsigned};
use crate::keys;

/// A seat that closes each interval badly, as soon as it hears of the block that begins it: before others know it.
#[derive(Clone, Debug)]
struct BadSeat {
    chain: Hash32,
    seat: Signer,
    stranger: Signer,
}

/// Ways to break a list.
const WAYS: u64 = 6;

impl BadSeat {
    fn closing(&self, parent: BlockHash, height: Height, way: u64, number: u64) -> ListedClosing {
        let place = Place::filler(&self.chain, parent, height + 1);
        let other = Place::filler(&self.chain, keys::made_up("another parent", height), height);
        let commit = |n| self.stranger.commitment(&place, keys::made_up("commitment", number + n));
        let good = || (0..3).map(commit);
        let close = |list: ClosingList| self.seat.closing(parent, &list.clone(), list);
        match way % WAYS {
            0 => close(ClosingList::new(good().map(|c| unsigned(c, number)))),
            1 => close(ClosingList(ClosingList::new(good()).0.into_iter().rev().collect())),
            2 => close(ClosingList::new([self.stranger.commitment(&other, keys::made_up("commitment", number))])),
            3 => self.seat.closing(parent, &ClosingList::default(), ClosingList::new(good())),
            4 => close(ClosingList::new((0..63).map(commit))),
            _ => close(ClosingList(good().flat_map(|c| [c.clone(), c]).collect())),
        }
    }
}

impl Conduct for BadSeat {
    fn answer(&self, request: &SyncRequest) -> Answer {
        let SyncRequest::Interval(parent) = request else { return Answer::Refuse };
        let closings = (0..WAYS).map(|way| self.closing(*parent, 0, way, way)).collect();
        Answer::say(SyncResponse::Interval(Box::new(IntervalMessages { closings, ..IntervalMessages::default() })))
    }

    fn hear(&self, gossip: &Gossip) -> Vec<Gossip> {
        let Gossip::Block(block) = gossip else { return Vec::new() };
        vec![Gossip::Closing(self.closing(block.hash(), block.height(), block.height(), 0))]
    }
}

/// Closings of a seat whose lists are not what they should be: on blocks just heard of, on the head, on made-up parents.
pub(crate) async fn bad_closings(attacker: &mut Attacker) -> anyhow::Result<String> {
    let end = Attacker::end();
    let bad = BadSeat { chain: attacker.chain, seat: attacker.seat(), stranger: attacker.signer(keys::account(1)) };
    let early = attacker.stranger(bad.clone()).await?;
    let mut late = attacker.bystander().await?;
    while Instant::now() < end {
        if late.connections().await < attacker.targets.len() {
            late = attacker.bystander().await?;
        }
        let place = attacker.place().await?;
        for way in 0..WAYS {
            for parent in [place.parent, keys::made_up("parent", attacker.done)] {
                late.gossip(&Gossip::Closing(bad.closing(parent, place.height, way, attacker.done))).await;
                attacker.done += 1;
            }
        }
        tokio::time::sleep(2 * VOLLEY).await;
    }
    attacker.keep([early, late]);
    Ok(format!("{} closings of one seat with bad lists, besides those on blocks just heard of", attacker.done))
}

/// A seat that closes each interval when it begins, and lists nobody.
#[derive(Debug)]
struct HollowSeat(Signer);

impl HollowSeat {
    fn closing(&self, parent: BlockHash) -> Gossip {
        Gossip::Closing(self.0.closing(parent, &ClosingList::default(), ClosingList::default()))
    }
}

impl Conduct for HollowSeat {
    fn hear(&self, gossip: &Gossip) -> Vec<Gossip> {
        let Gossip::Block(block) = gossip else { return Vec::new() };
        vec![self.closing(block.hash())]
    }
}

/// Closings in good form that list nothing, before anybody else closes: they make up a majority that lists no commitment.
pub(crate) async fn hollow_closings(attacker: &mut Attacker) -> anyhow::Result<String> {
    let end = Attacker::end();
    let stranger = attacker.stranger(HollowSeat(attacker.seat())).await?;
    let mut last = None;
    while Instant::now() < end {
        let parent = attacker.place().await?.parent;
        if last.replace(parent) != Some(parent) {
            stranger.gossip(&HollowSeat(attacker.seat()).closing(parent)).await;
            attacker.done += 1;
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep([stranger]);
    Ok(format!("empty closings of one seat at the beginning of {} intervals", attacker.done))
}
