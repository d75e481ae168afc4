//! The landscape of recorded trainings: what a surrogate fitted to them expects of any network.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use podl_chain_spec::Hash32;
use podl_consensus::workload::Architecture;
use podl_nas::tabular::{Record, Surrogate, SurrogateError};

use super::landscape::Landscape;
use crate::manager::architecture_name;

/// Accuracies that a surrogate expects, each asked for once.
pub struct Recorded {
    surrogate: Surrogate,
    known: Mutex<HashMap<Hash32, u32>>,
}

impl Recorded {
    /// Fits a surrogate to records.
    ///
    /// # Errors
    /// [`SurrogateError`] when there is too little to learn from.
    pub fn fit(records: &[Record], seed: u64) -> Result<Self, SurrogateError> {
        let records: Vec<&Record> = records.iter().collect();
        Ok(Self { surrogate: Surrogate::fit(&records, seed)?, known: Mutex::default() })
    }
}

impl Landscape for Recorded {
    fn accuracy_ppm(&self, network: &Architecture) -> u32 {
        let name = architecture_name(network);
        if let Some(ppm) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return *ppm;
        }
        // A network of another depth than the records is one that nothing is known of: it guesses.
        let ppm = self.surrogate.reward(network).unwrap_or(super::CHANCE_PPM);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, ppm);
        ppm
    }
}
