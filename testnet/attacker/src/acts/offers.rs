//! Attacks with answers: blocks named and not there, other blocks than those asked for, too many, none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use podl_chain_spec::Hash32;
use podl_consensus::types::Block;
use podl_engine::wire::{IntervalMessages, SyncRequest, SyncResponse};

use super::VOLLEY;
use crate::attacker::Attacker;
use crate::conduct::{Answer, Claim, Conduct};
use crate::forge::{Place, Signer, noise};
use crate::keys::{account, lowest_peers, made_up};
use crate::stranger::Stranger;

/// Blocks that one answer names.
const NAMED: u64 = 500;

/// A peer that promises and does not keep, in one of several ways.
struct Liar {
    chain: Hash32,
    claim: Claim,
    signer: Signer,
    way: usize,
    asked: Arc<AtomicU64>,
}

impl Liar {
    const WAYS: usize = 6;

    fn blocks(&self, count: u64) -> Answer {
        let head = self.claim.get().head;
        let block = |number| {
            let parent = made_up("liar's parent", number);
            let place = Place::filler(&self.chain, parent, head.height.saturating_add(number));
            self.signer.idle(&place, 0, 0, Hash32::ZERO)
        };
        Answer::say(SyncResponse::Blocks((0..count).map(block).collect::<Vec<Block>>()))
    }

    fn no_block(&self) -> Answer {
        match self.way {
            0 => Answer::Hold,
            1 => self.blocks(0),
            2 => self.blocks(1),
            3 => self.blocks(1000),
            4 => Answer::Bytes(noise(4, 1000)),
            _ => self.claim.answer(),
        }
    }
}

impl Conduct for Liar {
    fn answer(&self, request: &SyncRequest) -> Answer {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        match request {
            SyncRequest::Status(_) => self.claim.answer(),
            SyncRequest::Interval(_) => {
                let blocks = (0..NAMED).map(|n| made_up("named", number * NAMED + n)).collect();
                Answer::say(SyncResponse::Interval(Box::new(IntervalMessages { blocks, ..Default::default() })))
            }
            SyncRequest::Range { .. } | SyncRequest::Block(_) => self.no_block(),
        }
    }
}

/// Peers with the lowest peer ids that say they are where honest nodes are, name blocks that do not exist, and answer
/// requests for blocks late, with none, with others or with too many.
pub(crate) async fn false_offers(attacker: &mut Attacker) -> anyhow::Result<String> {
    const TRIED: u64 = 4_000;
    let claim = Claim::new(attacker.honest_status().await?);
    let asked = Arc::new(AtomicU64::new(0));
    let mut keys = lowest_peers(4 * Liar::WAYS, TRIED)?.into_iter();
    let mut peers = Vec::new();
    let mut used = 0;
    let end = Attacker::end();
    while Instant::now() < end {
        claim.set(attacker.honest_status().await?);
        for way in 0..Liar::WAYS {
            let gone = match peers.get(way) {
                Some(peer) => Stranger::connections(peer).await == 0,
                None => true,
            };
            let Some(key) = gone.then(|| keys.next()).flatten() else { continue };
            let signer = attacker.signer(account(used));
            let liar = Liar { chain: attacker.chain, claim: claim.clone(), signer, way, asked: asked.clone() };
            let peer = attacker.stranger_as(key, Arc::new(liar)).await?;
            used += 1;
            match peers.get_mut(way) {
                Some(place) => *place = peer,
                None => peers.push(peer),
            }
        }
        for peer in &peers {
            for target in &attacker.targets {
                peer.ask(target.peer, &SyncRequest::Status(claim.get())).await;
            }
        }
        attacker.done = asked.load(Ordering::Relaxed);
        tokio::time::sleep(2 * VOLLEY).await;
    }
    attacker.keep(peers);
    Ok(format!(
        "{used} peers with low ids named {NAMED} made-up blocks an answer; {} requests answered falsely",
        attacker.done
    ))
}
