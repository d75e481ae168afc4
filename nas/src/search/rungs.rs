//! Early stopping: which networks are trained further.
//!
//! Asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020): every
//! network gets the first few epochs, and a network goes on to the next rung once it is among the best third of those
//! that reached its own. Nobody waits for a rung to fill, and what was promoted stays promoted.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MOST_REWARD;

/// One network in so many goes on to the next rung.
const ETA: usize = 3;

/// More rungs than any search needs.
const MOST_RUNGS: usize = 16;

/// Epochs after which networks are compared, rising: 1-3-10-30, say. One rung means no early stopping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct Rungs(Vec<u32>);

impl Rungs {
    /// Every network gets all of its epochs.
    pub fn one(epochs: u32) -> Self {
        Self(vec![epochs.max(1)])
    }

    /// Epochs of each rung.
    pub fn epochs(&self) -> &[u32] {
        &self.0
    }

    /// Epochs of the last rung.
    pub fn last(&self) -> u32 {
        self.0.last().copied().unwrap_or(1)
    }
}

impl TryFrom<Vec<u32>> for Rungs {
    type Error = String;

    fn try_from(epochs: Vec<u32>) -> Result<Self, String> {
        let rises = epochs.windows(2).all(|pair| pair[0] < pair[1]);
        if epochs.is_empty() || epochs.len() > MOST_RUNGS || epochs[0] == 0 || !rises {
            return Err(format!(
                "rungs are {epochs:?}, expected 1 to {MOST_RUNGS} rising numbers of epochs like 1,3,10,30"
            ));
        }
        Ok(Self(epochs))
    }
}

impl From<Rungs> for Vec<u32> {
    fn from(rungs: Rungs) -> Self {
        rungs.0
    }
}

impl FromStr for Rungs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse().map_err(|_| format!("{part:?} is no number of epochs"));
        text.split(',').map(number).collect::<Result<Vec<u32>, _>>()?.try_into()
    }
}

/// A network on a rung.
#[derive(Clone, Copy, Debug)]
struct Standing {
    episode: u64,
    reward: u32,
    is_promoted: bool,
}

/// Who reached which rung.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    /// Networks that do no better than this are never promoted: they have learnt nothing.
    chance: u32,
    /// In order of arrival.
    rungs: Vec<Vec<Standing>>,
}

impl Ladder {
    pub(super) fn new(rungs: usize, chance: u32) -> Self {
        Self { chance, rungs: vec![Vec::new(); rungs] }
    }

    /// A network reached a rung. False when it was not its turn: it is there already, or not on the rung below.
    pub(super) fn reach(&mut self, episode: u64, rung: usize, reward: u32) -> bool {
        if rung >= self.rungs.len() || self.rungs[rung].iter().any(|s| s.episode == episode) {
            return false;
        }
        if rung > 0 {
            let below = self.rungs[rung - 1].iter_mut().find(|s| s.episode == episode && !s.is_promoted);
            let Some(below) = below else { return false };
            below.is_promoted = true;
        }
        self.rungs[rung].push(Standing { episode, reward, is_promoted: false });
        true
    }

    /// The next network to train further, with the rung that it goes to: from the highest rung that has one. With
    /// `to_the_end`, when no new networks are to come, the best of a rung goes on even where there are fewer than
    /// three, so that a search ends with a network of the last rung.
    pub(super) fn promotable(&self, to_the_end: bool) -> Option<(u64, usize)> {
        (0..self.rungs.len().saturating_sub(1)).rev().find_map(|rung| {
            let mut order: Vec<&Standing> = self.rungs[rung].iter().collect();
            // Stable: of equals the one that came first.
            order.sort_by_key(|standing| std::cmp::Reverse(standing.reward));
            let places = (order.len() / ETA).max(usize::from(to_the_end));
            let chosen = order.into_iter().take(places).find(|s| !s.is_promoted && s.reward > self.chance)?;
            Some((chosen.episode, rung + 1))
        })
    }
}

/// The greatest reward that guessing explains: the share of one class of a balanced set plus three standard
/// deviations of that share over so many images.
pub fn chance_reward(classes: u16, images: usize) -> u32 {
    let share = 1.0 / f64::from(classes.max(1));
    let deviation = libm::sqrt(share * (1.0 - share) / images.max(1) as f64);
    ((share + 3.0 * deviation).min(1.0) * f64::from(MOST_REWARD)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_rise() {
        assert_eq!("1,3, 10,30".parse::<Rungs>().unwrap().epochs(), [1, 3, 10, 30]);
        for bad in ["", "0,1", "3,3", "5,2", "1,x"] {
            assert!(bad.parse::<Rungs>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_in_three_goes_on_and_none_twice() {
        let mut ladder = Ladder::new(3, 0);
        assert!(ladder.reach(0, 0, 10) && ladder.reach(1, 0, 30));
        assert_eq!(ladder.promotable(false), None, "two are too few");
        assert!(ladder.reach(2, 0, 20));
        assert_eq!(ladder.promotable(false), Some((1, 1)));
        assert!(ladder.reach(1, 1, 35));
        assert_eq!(ladder.promotable(false), None);
        assert!(!ladder.reach(1, 1, 35), "is there already");
        assert!(!ladder.reach(2, 2, 35), "skips a rung");
        // A better one that comes later is the best of four.
        assert!(ladder.reach(3, 0, 40));
        assert_eq!(ladder.promotable(false), Some((3, 1)));
    }

    #[test]
    fn at_the_end_the_best_gets_all_epochs() {
        let mut ladder = Ladder::new(3, 0);
        assert!(ladder.reach(0, 0, 10) && ladder.reach(1, 0, 30));
        assert_eq!(ladder.promotable(true), Some((1, 1)));
        assert!(ladder.reach(1, 1, 5));
        assert_eq!(ladder.promotable(true), Some((1, 2)));
        assert!(ladder.reach(1, 2, 50));
        assert_eq!(ladder.promotable(true), None);
    }

    #[test]
    fn guesses_are_never_promoted() {
        let chance = chance_reward(10, 1000);
        assert!((120_000..135_000).contains(&chance), "{chance}");
        let mut ladder = Ladder::new(2, chance);
        for episode in 0..9 {
            assert!(ladder.reach(episode, 0, 100_000 + episode as u32));
        }
        assert_eq!(ladder.promotable(true), None);
        assert!(ladder.reach(9, 0, 200_000));
        assert_eq!(ladder.promotable(false), Some((9, 1)));
    }

    #[test]
    fn of_many_each_rung_has_a_third_of_the_one_below() {
        let mut ladder = Ladder::new(4, 0);
        for episode in 0..81u64 {
            assert!(ladder.reach(episode, 0, (episode as u32 * 37) % 101));
            while let Some((chosen, rung)) = ladder.promotable(false) {
                assert!(ladder.reach(chosen, rung, (chosen as u32 * 37) % 101 + rung as u32));
            }
        }
        let sizes: Vec<usize> = ladder.rungs.iter().map(Vec::len).collect();
        // Asynchrony promotes some that would not have made it in the end.
        assert!(sizes[0] == 81 && (27..=35).contains(&sizes[1]) && sizes[2] >= 9 && sizes[3] >= 3, "{sizes:?}");
    }
}
