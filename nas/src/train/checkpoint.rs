//! Training that goes on where it stopped.

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::trainer::{TrainError, Trainer};

/// Bytes of the checksum at the end of a file.
const CHECKSUM_BYTES: usize = 32;

/// A network between two epochs: trained on from here it becomes, bit for bit, what it would have become without the
/// stop, given the same data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Network, input table, settings and seed that it belongs to.
    job: [u8; 32],
    epochs: u32,
    steps: u64,
    /// Weights and biases, layer by layer.
    variables: Vec<Vec<f32>>,
    /// Momentum of each.
    velocity: Vec<Vec<f32>>,
}

/// Why bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole checkpoint: its checksum does not match")]
pub struct DamagedCheckpoint;

impl Checkpoint {
    /// Epochs that were done.
    pub fn epochs(&self) -> u32 {
        self.epochs
    }

    /// Bytes for a file, the last 32 their BLAKE3 hash.
    pub fn encode(&self) -> Vec<u8> {
        // Numbers in vectors: this cannot fail.
        let mut bytes = postcard::to_stdvec(self).unwrap_or_default();
        let checksum = blake3::hash(&bytes);
        bytes.extend(checksum.as_bytes());
        bytes
    }

    /// Reads what [`Checkpoint::encode`] wrote.
    ///
    /// # Errors
    /// [`DamagedCheckpoint`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedCheckpoint> {
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(DamagedCheckpoint)?;
        let (body, checksum) = bytes.split_at(at);
        if blake3::hash(body).as_bytes() != checksum {
            return Err(DamagedCheckpoint);
        }
        postcard::from_bytes(body).map_err(|_| DamagedCheckpoint)
    }
}

impl Trainer {
    /// The network as it is between two epochs.
    ///
    /// # Errors
    /// [`TrainError::Candle`].
    pub fn checkpoint(&self) -> Result<Checkpoint, TrainError> {
        let values = |var: &Var| var.to_device(&Device::Cpu)?.flatten_all()?.to_vec1();
        Ok(Checkpoint {
            job: self.identity(),
            epochs: self.epoch,
            steps: self.step,
            variables: self.vars().map(values).collect::<candle_core::Result<_>>()?,
            velocity: self.learner.velocity()?,
        })
    }

    /// Goes on from a checkpoint of the same network, input table, settings and seed.
    ///
    /// # Errors
    /// [`TrainError::OtherCheckpoint`]; nothing has changed then.
    pub fn resume(&mut self, from: &Checkpoint) -> Result<(), TrainError> {
        let lengths = || self.vars().map(|var| var.elem_count());
        let fits = |tensors: &[Vec<f32>]| tensors.iter().map(Vec::len).eq(lengths());
        if from.job != self.identity() || !fits(&from.variables) || !fits(&from.velocity) {
            return Err(TrainError::OtherCheckpoint);
        }
        for (var, values) in self.vars().zip(&from.variables) {
            var.set(&Tensor::from_slice(values, var.shape(), var.device())?)?;
        }
        self.learner.set_velocity(&from.velocity)?;
        (self.epoch, self.step) = (from.epochs, from.steps);
        Ok(())
    }

    /// Hash of what determines the training, but for the data.
    fn identity(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("podl train checkpoint v1");
        let network = &self.network;
        let layers: Vec<_> = network.convs.iter().map(|conv| conv.layer.clone()).collect();
        let parts = (layers, network.input, network.classes, network.dense, &self.config, &self.seed);
        // Plain numbers: this cannot fail.
        hasher.update(&postcard::to_stdvec(&parts).unwrap_or_default());
        for value in self.table.iter().flatten() {
            hasher.update(&value.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::import::tests::trainer;
    use super::*;
    use crate::data::generate;

    #[test]
    fn a_stop_changes_nothing() {
        let data = generate(&[7; 32], 96);
        let mut straight = trainer(8, 1);
        for _ in 0..3 {
            straight.run_epoch(&data, &mut |_| ()).unwrap();
        }
        let mut first = trainer(8, 1);
        first.run_epoch(&data, &mut |_| ()).unwrap();
        let bytes = first.checkpoint().unwrap().encode();
        let mut second = trainer(8, 1);
        second.resume(&Checkpoint::decode(&bytes).unwrap()).unwrap();
        assert_eq!(second.epochs_done(), 1);
        for _ in 0..2 {
            second.run_epoch(&data, &mut |_| ()).unwrap();
        }
        assert_eq!(second.checkpoint().unwrap(), straight.checkpoint().unwrap());
        assert_eq!(second.quantised_model().unwrap().root(), straight.quantised_model().unwrap().root());
    }

    #[test]
    fn foreign_and_damaged_checkpoints_are_refused() {
        let checkpoint = trainer(8, 1).checkpoint().unwrap();
        assert!(matches!(trainer(8, 2).resume(&checkpoint), Err(TrainError::OtherCheckpoint)), "another seed");
        assert!(matches!(trainer(9, 1).resume(&checkpoint), Err(TrainError::OtherCheckpoint)), "another network");
        let mut bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes[..bytes.len() - 1]), Err(DamagedCheckpoint));
        assert_eq!(Checkpoint::decode(&bytes[..7]), Err(DamagedCheckpoint));
        bytes[20] ^= 1;
        assert_eq!(Checkpoint::decode(&bytes), Err(DamagedCheckpoint));
    }
}
