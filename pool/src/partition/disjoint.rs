//! Boxes that cover the space exactly once, and their successive halving.

use podl_consensus::workload::{Setting, Space};
use serde::{Deserialize, Serialize};

use super::Subspace;

/// The order in which settings are cut. Kernel sizes come first: every part keeps a usable one, so no box is lost
/// from the start. Filters, strides, pools and bits decide accuracy or cost by themselves and are cut only in spaces
/// too small to be cut otherwise.
const CUT_ORDER: [Setting; 10] = [
    Setting::KernelWidth,
    Setting::KernelHeight,
    Setting::Pool,
    Setting::StrideWidth,
    Setting::StrideHeight,
    Setting::Filters,
    Setting::WeightInt,
    Setting::ActInt,
    Setting::WeightFrac,
    Setting::ActFrac,
];

/// Cuts a space into `boxes` parts that are pairwise disjoint and together hold every network once; fewer when the
/// space holds too few networks.
///
/// The box that was cut least is cut next, in up to three parts that take the values of a setting in turn: of kernel
/// sizes 1, 3, 5, 7, 9 one part gets 1 and 7, one 3 and 9, one 5.
pub fn disjoint(space: &Space, boxes: usize) -> Vec<Subspace> {
    let mut done = Vec::new();
    let mut open = std::collections::VecDeque::from([Subspace::whole(space.clone())]);
    while let Some(part) = open.pop_front() {
        let have = done.len() + open.len() + 1;
        let want = boxes.max(1).saturating_sub(have) + 1;
        match (want > 1).then(|| split(&part, want.min(3))).flatten() {
            Some(pieces) => open.extend(pieces),
            None => done.push(part),
        }
    }
    done.retain(|part| !part.is_empty());
    done
}

/// Cuts a part in at most `pieces` (2 or 3); `None` when it holds a single network or nothing. A setting is cut a
/// second time only when no other is left, since a part of a part could keep only the kernel size 1.
fn split(part: &Subspace, pieces: usize) -> Option<Vec<Subspace>> {
    split_at(part, pieces, false).or_else(|| split_at(part, pieces, true))
}

fn split_at(part: &Subspace, pieces: usize, again: bool) -> Option<Vec<Subspace>> {
    for setting in CUT_ORDER {
        // From the middle of the network outward: the first layer sees the image and the last the classes, so they
        // suffer most from a missing kernel size.
        let layers = part.space.conv_layers;
        let mut order: Vec<u8> = (0..layers).collect();
        order.sort_by_key(|&layer| (2 * i16::from(layer) - i16::from(layers) + 1).abs());
        for layer in order {
            let values = part.values(layer, setting);
            let parts = pieces.min(values.len());
            let was_cut = part.cuts.iter().any(|c| (c.layer, c.setting) == (layer, setting));
            if parts < 2 || (was_cut && !again) {
                continue;
            }
            let pieces: Vec<Subspace> = (0..parts)
                .map(|i| {
                    let kept: Vec<u16> = values.iter().copied().skip(i).step_by(parts).collect();
                    part.cut(layer, setting, &kept)
                })
                .filter(|piece| !piece.is_empty())
                .collect();
            return Some(pieces);
        }
    }
    None
}

/// What is known about one box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxRecord {
    /// The box.
    pub subspace: Subspace,
    /// Confirmed results from it.
    pub trials: u32,
    /// The best confirmed hold-out count from it.
    pub best: Option<u32>,
    /// Leases handed out on it.
    pub leases: u32,
    /// Whether nothing could be proposed in it when it was last asked for.
    pub is_barren: bool,
}

/// Successive halving of boxes: 9, then the best 3, then the best 1. What the boxes that leave had found stays with
/// the manager as elites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halving {
    boxes: Vec<BoxRecord>,
    active: Vec<usize>,
    trials_per_box: u32,
    halves: bool,
}

impl Halving {
    /// Starts over all boxes; a stage ends when each active box has `trials_per_box` confirmed results, unless boxes are
    /// not to be halved.
    pub fn new(boxes: Vec<Subspace>, trials_per_box: u32, halves: bool) -> Self {
        let active = (0..boxes.len()).collect();
        let record = |subspace| BoxRecord { subspace, trials: 0, best: None, leases: 0, is_barren: false };
        let boxes = boxes.into_iter().map(record).collect();
        Self { boxes, active, trials_per_box: trials_per_box.max(1), halves }
    }

    /// All boxes, also those that have left.
    pub fn boxes(&self) -> &[BoxRecord] {
        &self.boxes
    }

    /// Indices of the boxes still searched.
    pub fn active(&self) -> &[usize] {
        &self.active
    }

    /// The active box with the fewest leases, the earliest of equals, and counts a lease on it. Boxes in which nothing could
    /// be proposed come last.
    pub fn lease_next(&mut self) -> Option<usize> {
        let rank = |&&i: &&usize| (self.boxes.get(i).map_or((true, u32::MAX), |b| (b.is_barren, b.leases)), i);
        let index = *self.active.iter().min_by_key(rank)?;
        let record = self.boxes.get_mut(index)?;
        record.leases = record.leases.saturating_add(1);
        Some(index)
    }

    /// Notes whether anything could be proposed in a box. A stage does not wait for one where nothing can, and it is the
    /// first to leave: what a task's bounds admit may lie in few boxes.
    pub fn note_proposed(&mut self, index: usize, was_found: bool) {
        if let Some(record) = self.boxes.get_mut(index) {
            record.is_barren = !was_found;
        }
    }

    /// Notes a confirmed result and ends the stage when every active box has its trials. True when it did.
    pub fn note(&mut self, index: usize, count: u32) -> bool {
        if let Some(record) = self.boxes.get_mut(index) {
            record.trials = record.trials.saturating_add(1);
            record.best = record.best.max(Some(count));
        }
        let due = |&i: &usize| self.boxes.get(i).is_none_or(|b| b.is_barren || b.trials >= self.trials_per_box);
        let ripe = self.halves && self.active.len() > 1 && self.active.iter().all(due);
        if ripe {
            self.halve();
        }
        ripe
    }

    /// Keeps the best third of the active boxes (at least one): those with anything left, by best count, then fewer
    /// trials, then index.
    pub fn halve(&mut self) {
        let keep = self.active.len().div_ceil(3).max(1);
        let boxes = &mut self.boxes;
        self.active.sort_by_key(|&i| {
            let record = boxes.get(i);
            let is_barren = record.is_some_and(|b| b.is_barren);
            (is_barren, std::cmp::Reverse(record.and_then(|b| b.best)), record.map_or(0, |b| b.trials), i)
        });
        self.active.truncate(keep);
        self.active.sort_unstable();
        // Trials count per stage.
        for &i in &self.active {
            if let Some(record) = boxes.get_mut(i) {
                record.trials = 0;
            }
        }
    }
}

/// The number of boxes for that many exploring miners: the next power of three, so that halving goes 9, 3, 1.
pub fn boxes_for(miners: usize) -> usize {
    let mut boxes = 1;
    while boxes < miners && boxes < 81 {
        boxes *= 3;
    }
    boxes
}
