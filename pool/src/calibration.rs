//! Calibration: a short seeded job with the real integer kernel, whose answer the manager can check.
//!
//! The digest is a chain: each step classifies images drawn from the digest before it, so no step can be skipped or
//! shared out. Time is measured by the manager between question and answer, so a miner cannot report a speed.

use podl_chain_spec::Hash32;
use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};
use podl_nas::artefact::{Model, Parameters};
use podl_nas::engine::Engine;
use serde::{Deserialize, Serialize};

/// Images of one step.
const STEP_IMAGES: usize = 32;
/// Least measured time that counts; below, the job is repeated longer.
pub const SHORTEST_MS: u64 = 100;
/// Most steps of a job, whatever a manager asks: bounds what a miner lets itself be made to do.
pub const MOST_STEPS: u32 = 4096;

/// What to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CalibrationJob {
    /// Fixes weights and images.
    pub seed: [u8; 32],
    /// Length of the chain.
    pub steps: u32,
}

/// The network that is run: a small one of the paper's space.
fn network() -> Option<Network> {
    let layer = ConvLayer {
        kernel: [3, 3],
        filters: 24,
        stride: [1, 1],
        pool: 2,
        act: FixedPoint::new(1, 4),
        weight: FixedPoint::new(1, 5),
    };
    let dense = DenseConfig { width: 64, ..DenseConfig::default() };
    Network::new(&Architecture { layers: vec![layer; 4] }, InputShape::CIFAR, 10, dense).ok()
}

/// Multiply-accumulates of a job.
pub fn job_macs(job: &CalibrationJob) -> u64 {
    network().map_or(0, |n| n.macs()).saturating_mul(STEP_IMAGES as u64).saturating_mul(job.steps.into())
}

/// A job of at least one step that takes about `target_ms` at `macs_s` multiply-accumulates a second.
pub fn job_for(seed: [u8; 32], macs_s: u64, target_ms: u64) -> CalibrationJob {
    let step_macs = job_macs(&CalibrationJob { seed, steps: 1 }).max(1);
    let steps = u128::from(macs_s) * u128::from(target_ms) / 1000 / u128::from(step_macs);
    CalibrationJob { seed, steps: u32::try_from(steps).unwrap_or(MOST_STEPS).clamp(1, MOST_STEPS) }
}

/// Computes the answer. The same on every machine and for every number of threads, since the engine is exact.
/// `None` for more than [`MOST_STEPS`] steps.
pub fn answer(job: &CalibrationJob, threads: usize) -> Option<Hash32> {
    if job.steps > MOST_STEPS {
        return None;
    }
    let network = network()?;
    let layers = random_parameters(&network, &job.seed);
    let model = Model::new(network, layers).ok()?;
    let table: Vec<i16> = (0..256i16).map(|byte| (byte - 128) * 4).collect();
    let engine = Engine::new(&model, &[table.clone(), table.clone(), table]).ok()?;
    let mut digest = blake3::Hash::from_bytes(job.seed);
    let mut images = vec![0; STEP_IMAGES * InputShape::CIFAR.values()];
    for _ in 0..job.steps {
        blake3::Hasher::new_keyed(digest.as_bytes()).finalize_xof().fill(&mut images);
        let classes = engine.classify(&images, threads).ok()?;
        let mut hasher = blake3::Hasher::new_keyed(digest.as_bytes());
        for class in classes {
            hasher.update(&class.to_le_bytes());
        }
        digest = hasher.finalize();
    }
    Some(Hash32(*digest.as_bytes()))
}

/// Weights over the whole range of their formats.
fn random_parameters(network: &Network, seed: &[u8; 32]) -> Vec<Parameters> {
    let mut stream = blake3::Hasher::new_derive_key("podl v1 pool calibration");
    stream.update(seed);
    let mut stream = stream.finalize_xof();
    let mut draw = |count: u64, format: FixedPoint| {
        let (low, high) = format.signed_range();
        let span = (high - low + 1).max(1);
        (0..count)
            .map(|_| {
                let mut bytes = [0; 4];
                stream.fill(&mut bytes);
                i16::try_from(low + i64::from(u32::from_le_bytes(bytes)) % span).unwrap_or(0)
            })
            .collect::<Vec<i16>>()
    };
    let convs = network.convs.iter().map(|c| (c.fan_in(), c.out_channels(), c.layer.weight));
    let dense = [network.hidden, network.output].map(|d| (u64::from(d.inputs), d.outputs, network.dense.weight));
    convs
        .chain(dense)
        .map(|(fan_in, outputs, format)| Parameters {
            weights: draw(fan_in * u64::from(outputs), format),
            biases: draw(outputs.into(), format),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_depend_on_seed_and_steps_but_not_on_threads() {
        let job = CalibrationJob { seed: [1; 32], steps: 3 };
        let digest = answer(&job, 1).unwrap();
        assert_eq!(answer(&job, 2).unwrap(), digest);
        assert_ne!(answer(&CalibrationJob { steps: 4, ..job }, 1).unwrap(), digest);
        assert_ne!(answer(&CalibrationJob { seed: [2; 32], ..job }, 1).unwrap(), digest);
        assert_eq!(answer(&CalibrationJob { steps: MOST_STEPS + 1, ..job }, 1), None);
    }

    #[test]
    fn steps_of_the_chain_are_not_all_alike() {
        // If the random network put everything into one class, a cheat could guess the chain.
        let network = network().unwrap();
        let model = Model::new(network.clone(), random_parameters(&network, &[3; 32])).unwrap();
        let table: Vec<i16> = (0..256i16).map(|byte| (byte - 128) * 4).collect();
        let engine = Engine::new(&model, &vec![table; 3]).unwrap();
        let mut images = vec![0; 256 * InputShape::CIFAR.values()];
        blake3::Hasher::new_keyed(&[4; 32]).finalize_xof().fill(&mut images);
        let classes = engine.classify(&images, 1).unwrap();
        let distinct: std::collections::BTreeSet<u16> = classes.into_iter().collect();
        assert!(distinct.len() > 1, "{distinct:?}");
    }

    #[test]
    fn jobs_fit_the_time() {
        let step = job_macs(&CalibrationJob { seed: [0; 32], steps: 1 });
        assert_eq!(job_for([0; 32], step * 10, 500).steps, 5);
        assert_eq!(job_for([0; 32], 0, 500).steps, 1);
        assert_eq!(job_for([0; 32], u64::MAX, 500).steps, MOST_STEPS);
    }
}
