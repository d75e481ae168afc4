//! Counting what miners hand in, on the data that it was asked for.

use std::sync::Arc;

use podl_chain_spec::{Caps, Hash32};
use podl_consensus::workload::WorkVerifier;
use podl_nas::data::Dataset;
use podl_nas::engine::Engine;
use podl_nas::{Verifier, artefact};

use crate::manager::Outcome;
use crate::types::{DataSource, Interval};

/// Data of the interval under work.
pub(super) struct Current {
    pub interval: Interval,
    pub public: Dataset,
    pub holdout: Dataset,
    /// A published task's blob.
    pub blob: Option<Arc<Vec<u8>>>,
}

impl Current {
    pub fn data_root(&self) -> Option<Hash32> {
        match &self.interval.data {
            DataSource::Published { data, .. } => Some(data.root),
            DataSource::Filler { .. } => None,
        }
    }
}

/// What an evaluation needs.
pub(super) struct Evaluation {
    pub current: Option<Arc<Current>>,
    /// The artefact.
    pub bytes: Option<Arc<Vec<u8>>>,
    /// The count on the public images that its miner says.
    pub claim: Option<u32>,
}

impl Evaluation {
    /// Counts a model: first on the images of the claim, and only if that holds on the secret ones, so that false claims
    /// cost the manager little. That it is the network it was handed in as was seen when it came.
    pub fn evaluate(&self, caps: &Caps) -> Outcome {
        let Some(current) = &self.current else { return Outcome::Failed("no interval".into()) };
        let Some(bytes) = &self.bytes else { return Outcome::Failed("the artefact is gone".into()) };
        let work = &current.interval.workload;
        let facts = match Verifier::new(1).model_facts(work, caps, bytes) {
            Ok(facts) => facts,
            Err(error) => return Outcome::Invalid(error.to_string()),
        };
        match self.counts(current, bytes, caps) {
            Ok((public_correct, holdout_correct)) => Outcome::Model {
                architecture: facts.architecture,
                macs: facts.macs,
                mac_bits: facts.mac_bits,
                public_correct,
                holdout_correct,
            },
            Err(reason) => Outcome::Failed(reason),
        }
    }

    /// Counts on the public and on the secret images; on the latter 0 when the claim is false.
    fn counts(&self, current: &Current, bytes: &[u8], caps: &Caps) -> Result<(u32, u32), String> {
        let model = artefact::decode(bytes, caps).map_err(|e| e.to_string())?;
        let engine = Engine::new(&model, &current.interval.workload.input_table).map_err(|e| e.to_string())?;
        let public = count(&engine, &current.public)?;
        let is_true = self.claim.is_none_or(|correct| correct == public);
        Ok((public, if is_true { count(&engine, &current.holdout)? } else { 0 }))
    }
}

/// On one thread: miners beside it use the others.
fn count(engine: &Engine, images: &Dataset) -> Result<u32, String> {
    if images.is_empty() { Ok(0) } else { engine.count_correct(images, 1).map_err(|e| e.to_string()) }
}
