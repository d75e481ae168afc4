//! When simulated miners come, go and come back.

use crate::rng::SeededRng;

/// One stay of a miner in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// When it joins.
    pub from_ms: u64,
    /// When it dies without a word; none when it stays to the end.
    pub dies_ms: Option<u64>,
}

/// How miners come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Churn {
    /// All stay.
    Calm,
    /// Deaths at random, so many on average in a thousand lease times of a miner; back after half as long as a lease,
    /// on average.
    Poisson {
        /// Deaths in a thousand lease times.
        deaths_permille: u32,
    },
    /// The same rate, but stays with a heavy tail (Pareto of exponent 1.5): many short ones, few very long ones.
    HeavyTailed {
        /// Deaths in a thousand lease times.
        deaths_permille: u32,
    },
    /// The same rate, but always a third of the miners at once.
    Correlated {
        /// Deaths in a thousand lease times.
        deaths_permille: u32,
    },
}

/// A draw between 0 and 1, never 0. Simulations may use floats: what they decide is when things happen, and they
/// are no part of a validity rule.
fn unit(rng: &mut SeededRng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
}

fn exponential(rng: &mut SeededRng, mean: f64) -> f64 {
    -unit(rng).ln() * mean
}

/// Pareto of exponent 1.5 with that mean.
fn pareto(rng: &mut SeededRng, mean: f64) -> f64 {
    mean / 3.0 * unit(rng).powf(-1.0 / 1.5)
}

/// The stays of `miners` miners until `end_ms`.
pub fn lives(churn: Churn, miners: usize, lease_ms: u64, end_ms: u64, seed: u64) -> Vec<Vec<Stay>> {
    let mean = |permille: u32| lease_ms as f64 * 1000.0 / f64::from(permille.max(1));
    let away = lease_ms as f64 / 2.0;
    let alone = |draw: &dyn Fn(&mut SeededRng) -> f64| {
        (0..miners)
            .map(|miner| {
                let mut rng = SeededRng::new(&[seed.to_le_bytes(), (miner as u64).to_le_bytes()].concat(), "life");
                stays(end_ms, || (draw(&mut rng), exponential(&mut rng, away)))
            })
            .collect()
    };
    match churn {
        Churn::Calm => vec![vec![Stay { from_ms: 0, dies_ms: None }]; miners],
        Churn::Poisson { deaths_permille } => alone(&|rng| exponential(rng, mean(deaths_permille))),
        Churn::HeavyTailed { deaths_permille } => alone(&|rng| pareto(rng, mean(deaths_permille))),
        Churn::Correlated { deaths_permille } => {
            let mut rng = SeededRng::new(&seed.to_le_bytes(), "outages");
            // A third dies in each outage, so outages are three times as frequent as deaths of one miner.
            let groups: Vec<Vec<Stay>> = (0..3)
                .map(|_| stays(end_ms, || (exponential(&mut rng, mean(deaths_permille)), exponential(&mut rng, away))))
                .collect();
            (0..miners).map(|miner| groups[miner % 3].clone()).collect()
        }
    }
}

/// Stays of drawn lengths with drawn breaks between.
fn stays(end_ms: u64, mut draw: impl FnMut() -> (f64, f64)) -> Vec<Stay> {
    let (mut all, mut from_ms) = (Vec::new(), 0u64);
    while from_ms < end_ms {
        let (stay, away) = draw();
        let dies_ms = from_ms.saturating_add(stay as u64).saturating_add(1);
        all.push(Stay { from_ms, dies_ms: (dies_ms < end_ms).then_some(dies_ms) });
        from_ms = dies_ms.saturating_add(away as u64).saturating_add(1);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deaths(churn: Churn) -> f64 {
        let all = lives(churn, 300, 1000, 100_000, 7);
        all.iter().flatten().filter(|s| s.dies_ms.is_some()).count() as f64 / 300.0
    }

    #[test]
    fn rates_are_what_they_say() {
        assert!(deaths(Churn::Calm) < 1e-9);
        // 100 lease times, of which half of one is spent away after each death.
        for (churn, expected) in [
            (Churn::Poisson { deaths_permille: 100 }, 9.5),
            (Churn::Poisson { deaths_permille: 500 }, 40.0),
            (Churn::Correlated { deaths_permille: 100 }, 9.5),
        ] {
            let got = deaths(churn);
            assert!((got - expected).abs() < expected * 0.35, "{churn:?}: {got}");
        }
        assert!(deaths(Churn::HeavyTailed { deaths_permille: 100 }) > 5.0);
    }

    #[test]
    fn an_outage_takes_a_third_at_once() {
        let all = lives(Churn::Correlated { deaths_permille: 100 }, 9, 1000, 100_000, 3);
        assert_eq!(all[0], all[3]);
        assert_ne!(all[0], all[1]);
    }
}
