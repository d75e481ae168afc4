//! Attacks with blocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use podl_chain_spec::Hash32;
use podl_consensus::signed::Signed;
use podl_consensus::types::{Block, BlockHash, ClosingSet, Commitment, ListedClosing, Opening, Outcome, commitment_id};
use podl_engine::wire::{Gossip, IntervalMessages, SyncRequest, SyncResponse};

use super::{SHOTS, VOLLEY};
use crate::attacker::Attacker;
use crate::conduct::{Answer, Bystander, Claim, Conduct};
use crate::forge::{Place, Signer};
use crate::keys;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time that a block on the head may have: not before its interval can have ended, not far ahead of anybody's clock.
fn soon_ms(attacker: &Attacker) -> u64 {
    now_ms().saturating_add(attacker.spec.min_interval_ms())
}

/// Has blocks, names them in every interval, and says it is where honest nodes are.
struct Offer {
    claim: Claim,
    blocks: BTreeMap<BlockHash, Block>,
}

impl Conduct for Offer {
    fn answer(&self, request: &SyncRequest) -> Answer {
        match request {
            SyncRequest::Status(_) => self.claim.answer(),
            SyncRequest::Block(hash) => {
                Answer::say(SyncResponse::Blocks(self.blocks.get(hash).cloned().into_iter().collect()))
            }
            SyncRequest::Interval(_) => {
                let blocks = self.blocks.keys().copied().collect();
                Answer::say(SyncResponse::Interval(Box::new(IntervalMessages { blocks, ..Default::default() })))
            }
            SyncRequest::Range { .. } => Answer::Refuse,
        }
    }
}

/// The least view in which a seat may propose at a height.
async fn turn(attacker: &Attacker, place: &Place, seat: &Signer) -> anyhow::Result<u32> {
    let seats = attacker.seats().await?.seats;
    let count = seats.len().max(1) as u64;
    let is_seats_turn = |view: &u64| {
        let number = place.height.wrapping_add(*view) % count;
        usize::try_from(number).ok().and_then(|n| seats.get(n)).is_some_and(|s| s.account == seat.account())
    };
    Ok((0..count).find(is_seats_turn).and_then(|view| u32::try_from(view).ok()).unwrap_or(0))
}

/// Well-signed blocks of times to come: they wait until the clock is there.
pub(crate) async fn far_future(attacker: &mut Attacker) -> anyhow::Result<String> {
    const PEERS: u64 = 8;
    const EACH: u64 = 16;
    let claim = Claim::new(attacker.honest_status().await?);
    let (place, seat) = (attacker.place().await?, attacker.seat());
    let view = turn(attacker, &place, &seat).await?;
    let far = now_ms().saturating_add(365 * 24 * 3_600_000);
    for peer in 0..PEERS {
        let made = (0..EACH).map(|number| {
            let number = peer * EACH + number;
            let time_ms = if number == 0 { u64::MAX } else { far + number };
            let signer = attacker.signer(keys::account(number));
            let block = signer.idle(&place, view, time_ms, keys::made_up("future", number));
            (block.hash(), block)
        });
        let made: BTreeMap<BlockHash, Block> = made.collect();
        attacker.done += made.len() as u64;
        let stranger = attacker.stranger(Offer { claim: claim.clone(), blocks: made }).await?;
        for target in attacker.targets.clone() {
            stranger.ask(target.peer, &SyncRequest::Status(claim.get())).await;
        }
        attacker.keep([stranger]);
    }
    let stranger = attacker.bystander().await?;
    for number in 0..2 {
        let block = seat.idle(&place, view, far + number, keys::made_up("seat's future", number));
        stranger.gossip(&Gossip::Block(Box::new(block))).await;
    }
    // New peers are asked what was said in the interval; those that stay are asked in turn.
    let end = Attacker::end();
    while Instant::now() < end {
        claim.set(attacker.honest_status().await?);
        tokio::time::sleep(2 * VOLLEY).await;
    }
    attacker.keep([stranger]);
    Ok(format!("{} blocks of strangers and 2 of a seat, a year and more ahead", attacker.done))
}

/// Blocks, votes and commitments on parents that do not exist, from peers that then do not answer for them.
pub(crate) async fn unknown_parents(attacker: &mut Attacker) -> anyhow::Result<String> {
    let claim = Claim::new(attacker.honest_status().await?);
    let end = Attacker::end();
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let stranger = attacker.stranger(Silent(claim.clone())).await?;
        for target in attacker.targets.clone() {
            stranger.ask(target.peer, &SyncRequest::Status(claim.get())).await;
        }
        strangers.push(stranger);
    }
    while Instant::now() < end {
        let head = attacker.honest_status().await?.head;
        claim.set(attacker.honest_status().await?);
        for stranger in &strangers {
            for _ in 0..SHOTS / 3 {
                attacker.done += 1;
                let number = attacker.done;
                let signer = attacker.signer(keys::account(number));
                let parent = keys::made_up("no parent", number);
                let place = Place::filler(&attacker.chain, parent, head.height + 1 + number % 7);
                let block = signer.idle(&place, 0, now_ms(), Hash32::ZERO);
                stranger.gossip(&Gossip::Vote(signer.vote(place.height, block.hash(), 0, Vec::new()))).await;
                stranger.gossip(&Gossip::Commitment(signer.commitment(&place, parent))).await;
                stranger.gossip(&Gossip::Block(Box::new(block))).await;
            }
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep(strangers);
    Ok(format!("{} blocks, as many votes and commitments, on parents that do not exist, from 3 peers", attacker.done))
}

/// Says where it is and never answers for a block.
struct Silent(Claim);

impl Conduct for Silent {
    fn answer(&self, request: &SyncRequest) -> Answer {
        match request {
            SyncRequest::Status(_) => self.0.answer(),
            _ => Answer::Hold,
        }
    }
}

/// A seat that signs many blocks on one parent.
pub(crate) async fn twin_blocks(attacker: &mut Attacker) -> anyhow::Result<String> {
    const TWINS: u64 = 40;
    let end = Attacker::end();
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(attacker.bystander().await?);
    }
    let (seat, mut parents, mut last) = (attacker.seat(), 0, None);
    while Instant::now() < end {
        let place = attacker.place().await?;
        if last != Some(place.parent) {
            last = Some(place.parent);
            parents += 1;
            let view = turn(attacker, &place, &seat).await?;
            for stranger in &mut strangers {
                if stranger.connections().await < attacker.targets.len() {
                    let key = attacker.next_peer()?;
                    *stranger = attacker.stranger_as(key, Arc::new(Bystander)).await?;
                }
                for _ in 0..TWINS / 3 {
                    attacker.done += 1;
                    let block = seat.idle(&place, view, soon_ms(attacker), keys::made_up("twin", attacker.done));
                    stranger.gossip(&Gossip::Block(Box::new(block))).await;
                }
            }
        }
        tokio::time::sleep(VOLLEY).await;
    }
    attacker.keep(strangers);
    Ok(format!("{} differing blocks of one seat on {parents} parents", attacker.done))
}

/// What a false miner knows of the interval it cheats in.
struct Cheat {
    place: Place,
    commitment: Signed<Commitment>,
    salt: [u8; 32],
    closings: Vec<ListedClosing>,
    shown: bool,
}

/// A miner that opens its commitment to a model that nobody has, with a count that nobody reaches.
#[derive(Clone)]
struct FalseMiner {
    chain: Hash32,
    owner: Signer,
    images: u32,
    cheat: Arc<Mutex<Option<Cheat>>>,
}

impl FalseMiner {
    fn commit(&self, place: Place) -> Signed<Commitment> {
        let salt = keys::made_up("salt", place.height).0;
        let root = keys::made_up("model", place.height);
        let id =
            commitment_id(&self.chain, &place.parent, &place.task, place.round, &self.owner.account(), &root, &salt);
        let commitment = self.owner.commitment(&place, id);
        let cheat = Cheat { place, commitment: commitment.clone(), salt, closings: Vec::new(), shown: false };
        *self.cheat.lock().unwrap_or_else(PoisonError::into_inner) = Some(cheat);
        commitment
    }

    fn candidate(&self, cheat: &Cheat) -> Block {
        let closings = ClosingSet::new(&cheat.closings);
        let opening = Opening {
            model_root: keys::made_up("model", cheat.place.height),
            artefact_bytes: 1000,
            salt: cheat.salt,
            correct: self.images,
            mac_bits: 1,
        };
        let outcome = Outcome::Scored { closings, opening, key: None };
        self.owner.block(&cheat.place, 0, now_ms(), outcome, keys::made_up("state", cheat.place.height))
    }
}

impl Conduct for FalseMiner {
    fn hear(&self, gossip: &Gossip) -> Vec<Gossip> {
        const MAJORITY: usize = 3;
        let Gossip::Closing(listed) = gossip else { return Vec::new() };
        let mut cheat = self.cheat.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cheat) = cheat.as_mut().filter(|c| c.place.parent == listed.closing.message.parent && !c.shown) else {
            return Vec::new();
        };
        if listed.list.0.contains(&cheat.commitment) {
            cheat.closings.push(listed.clone());
        }
        cheat.shown = cheat.closings.len() >= MAJORITY;
        let shown = cheat.shown.then(|| Gossip::Block(Box::new(self.candidate(cheat))));
        shown.into_iter().collect()
    }
}

/// Candidates with the highest count and no model, by an owner who pays for its commitments.
pub(crate) async fn false_candidates(attacker: &mut Attacker) -> anyhow::Result<String> {
    let owner = attacker.purse("seat-4").await?;
    let images = attacker.interval().await?.shard_images;
    let miner = FalseMiner { chain: attacker.chain, owner, images, cheat: Arc::default() };
    let key = attacker.next_peer()?;
    let mut stranger = attacker.stranger_as(key, Arc::new(miner.clone())).await?;
    let end = Attacker::end();
    let (mut last, mut shown) = (None, 0);
    while Instant::now() < end {
        let place = attacker.place().await?;
        if last != Some(place.parent) {
            last = Some(place.parent);
            if stranger.connections().await < attacker.targets.len() {
                let key = attacker.next_peer()?;
                stranger = attacker.stranger_as(key, Arc::new(miner.clone())).await?;
            }
            shown += u64::from(is_shown(&miner));
            stranger.gossip(&Gossip::Commitment(miner.commit(place))).await;
            attacker.done += 1;
        }
        tokio::time::sleep(VOLLEY).await;
    }
    shown += u64::from(is_shown(&miner));
    attacker.keep([stranger]);
    Ok(format!("{} paid commitments, {shown} candidates with all images right and no model", attacker.done))
}

fn is_shown(miner: &FalseMiner) -> bool {
    miner.cheat.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|cheat| cheat.shown)
}
