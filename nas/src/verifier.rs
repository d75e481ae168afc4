//! What full nodes judge models with.

use podl_chain_spec::Caps;
use podl_consensus::workload::{
    Architecture, Bounds, InputShape, ModelFacts, Network, WorkError, WorkVerifier, Workload,
};

use crate::artefact::{self, ENGINE_VERSION, Model};
use crate::cost::{self, COST_MODEL_VERSION, CostModel};
use crate::data::{self, Dataset, GENERATOR_CLASSES, GENERATOR_VERSION};
use crate::engine::{Engine, EngineError};

/// The verifier of this crate's engine, cost model and generator.
#[derive(Clone, Copy, Debug)]
pub struct Verifier {
    threads: usize,
}

impl Verifier {
    /// A verifier that scores on so many threads, which never changes a result.
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }
}

fn same_version(what: &'static str, got: u16, expected: u16) -> Result<(), WorkError> {
    if got == expected { Ok(()) } else { Err(WorkError::UnknownVersion { what, got, expected }) }
}

impl WorkVerifier for Verifier {
    fn model_facts(&self, workload: &Workload, caps: &Caps, artefact: &[u8]) -> Result<ModelFacts, WorkError> {
        judge(workload, caps, artefact).map(|(_, facts)| facts)
    }

    fn parse_shard(&self, workload: &Workload, caps: &Caps, shard: &[u8]) -> Result<u32, WorkError> {
        open_shard(workload, caps, shard)?;
        Ok(workload.shard_images)
    }

    fn score(&self, workload: &Workload, caps: &Caps, artefact: &[u8], shard: &[u8]) -> Result<u32, WorkError> {
        let (model, _) = judge(workload, caps, artefact)?;
        let data = open_shard(workload, caps, shard)?;
        let bad = |e: EngineError| WorkError::BadWorkload { what: e.to_string() };
        Engine::new(&model, &workload.input_table).and_then(|e| e.count_correct(&data, self.threads)).map_err(bad)
    }

    fn filler_shard(&self, workload: &Workload, caps: &Caps, seed: [u8; 32]) -> Result<Vec<u8>, WorkError> {
        same_version("generator", workload.versions.generator, GENERATOR_VERSION)?;
        let generated = Dataset::new(InputShape::CIFAR, GENERATOR_CLASSES);
        if (workload.input, workload.classes) != (generated.shape, generated.classes) {
            let what = format!("filler images of {:?} and {} classes", workload.input, workload.classes);
            return Err(WorkError::BadWorkload { what });
        }
        let (got, limit) =
            (data::encoded_dataset_bytes(workload.input, workload.shard_images.into()), u64::from(caps.shard_bytes));
        if got > limit {
            return Err(WorkError::TooLarge { what: "the filler shard (bytes)", got, limit });
        }
        Ok(data::encode_dataset(&data::generate(&seed, workload.shard_images)))
    }
}

/// All checks of an artefact but its score, cheap ones first.
fn judge(workload: &Workload, caps: &Caps, bytes: &[u8]) -> Result<(Model, ModelFacts), WorkError> {
    same_version("engine", workload.versions.engine, ENGINE_VERSION)?;
    same_version("cost model", workload.versions.cost_model, COST_MODEL_VERSION)?;
    let network = artefact::decode_network(bytes, caps)?;
    check_task_form(workload, &network)?;
    let architecture = network.architecture();
    workload.space.check(&architecture).map_err(|what| WorkError::OutsideSpace { what })?;
    let got = network.macs().saturating_mul(workload.shard_images.into());
    if got > caps.score_macs {
        return Err(WorkError::TooManyMacs { got, limit: caps.score_macs });
    }
    let (lut, cycles) = check_bounds(workload, &architecture)?;
    // What takes memory and time comes last.
    let model = artefact::decode(bytes, caps)?;
    let facts = ModelFacts { architecture, mac_bits: network.mac_bits(), macs: network.macs(), lut, cycles };
    Ok((model, facts))
}

/// Input, classes and dense layers are the task's, not the miner's to choose.
fn check_task_form(workload: &Workload, network: &Network) -> Result<(), WorkError> {
    let outside = |what: String| Err(WorkError::OutsideSpace { what });
    if network.input != workload.input {
        return outside(format!("input {:?}, the task's is {:?}", network.input, workload.input));
    }
    if network.classes != workload.classes {
        return outside(format!("{} classes, the task has {}", network.classes, workload.classes));
    }
    if network.dense != workload.space.dense {
        return outside(format!("dense layers {:?}, the task's are {:?}", network.dense, workload.space.dense));
    }
    Ok(())
}

/// LUTs and cycles of the mapping, or which bound the network breaks.
fn check_bounds(workload: &Workload, architecture: &Architecture) -> Result<(u64, u64), WorkError> {
    let (input, bounds, model) = (workload.input, workload.bounds, CostModel::Corrected);
    let bad = |e: cost::CostError| WorkError::BadWorkload { what: e.to_string() };
    if let Some(cost) = cost::evaluate(model, architecture, input, bounds).map_err(bad)? {
        return Ok((cost.lut, cost.cycles));
    }
    let got = cost::smallest_lut(model, architecture, input).map_err(bad)?;
    if got > bounds.lut {
        return Err(WorkError::OverLut { got, bound: bounds.lut });
    }
    let unhurried = Bounds { throughput: 0, ..bounds };
    let best = cost::evaluate(model, architecture, input, unhurried).map_err(bad)?;
    // Without a throughput bound every network fits whose smallest tiles do. The heuristic may find a slower mapping
    // when it is not hurried, never one that meets the bound.
    let got = best.map_or(0, |cost| cost::CLOCK_HZ / cost.cycles.max(1));
    Err(WorkError::UnderThroughput { got: got.min(bounds.throughput), bound: bounds.throughput })
}

fn open_shard(workload: &Workload, caps: &Caps, shard: &[u8]) -> Result<Dataset, WorkError> {
    let data = data::decode_dataset(shard, workload.input, workload.classes, caps.shard_bytes.into())?;
    // The format counts images in 32 bits.
    let got = u32::try_from(data.len()).unwrap_or(u32::MAX);
    if got == workload.shard_images {
        Ok(data)
    } else {
        Err(WorkError::ShardSize { got, expected: workload.shard_images })
    }
}

#[cfg(test)]
mod tests;
