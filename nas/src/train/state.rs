//! Everything that training goes on from, as bytes with one form: what a miner commits to by hash and a manager replays.

use candle_core::{Device, Tensor, Var};

use super::trainer::{TrainError, Trainer};

/// First bytes of a state; the digit is its version.
const MAGIC: &[u8; 8] = b"podlTRN1";
/// Bytes of a value.
const VALUE_BYTES: usize = 4;

impl Trainer {
    /// Weights and momentum: the magic number, then every variable, then the momentum of every variable, as
    /// little-endian 32-bit floats. The same state has the same bytes, and each length follows from the network.
    ///
    /// # Errors
    /// [`TrainError::State`] when a value is not finite, [`TrainError::Candle`].
    pub fn state(&self) -> Result<Vec<u8>, TrainError> {
        let values = |var: &Var| var.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
        let mut tensors = self.vars().map(values).collect::<candle_core::Result<Vec<_>>>()?;
        tensors.extend(self.learner.velocity()?);
        let count: usize = tensors.iter().map(Vec::len).sum();
        let mut bytes = Vec::with_capacity(MAGIC.len() + VALUE_BYTES * count);
        bytes.extend_from_slice(MAGIC);
        for value in tensors.iter().flatten() {
            if !value.is_finite() {
                return Err(TrainError::State(format!("has the value {value}, expected finite ones")));
            }
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Goes on from such a state, made by a network of the same layers. Epochs and steps done stay as they are.
    ///
    /// # Errors
    /// [`TrainError::State`] for bytes that are no state of this network; nothing has changed then.
    pub fn set_state(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        let lengths: Vec<usize> = self.vars().map(|var| var.elem_count()).collect();
        let expected = MAGIC.len() + 2 * VALUE_BYTES * lengths.iter().sum::<usize>();
        if bytes.len() != expected {
            return Err(TrainError::State(format!("of {} bytes, expected {expected}", bytes.len())));
        }
        let (magic, body) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(TrainError::State(format!("begins with {magic:?}, expected {MAGIC:?}")));
        }
        let (values, _) = body.as_chunks::<VALUE_BYTES>();
        let mut values = values.iter().map(|&bytes| f32::from_le_bytes(bytes));
        if let Some(value) = values.clone().find(|value| !value.is_finite()) {
            return Err(TrainError::State(format!("has the value {value}, expected finite ones")));
        }
        let mut take = |&length: &usize| values.by_ref().take(length).collect::<Vec<f32>>();
        let variables: Vec<Vec<f32>> = lengths.iter().map(&mut take).collect();
        let velocity: Vec<Vec<f32>> = lengths.iter().map(&mut take).collect();
        for (var, values) in self.vars().zip(variables) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        self.learner.set_velocity(&velocity)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::import::tests::trainer;
    use crate::data::generate;

    #[test]
    fn a_state_in_another_trainer_is_the_same_state_and_trains_on_alike() {
        let data = generate(&[7; 32], 96);
        let mut first = trainer(8, 1);
        let fresh = first.state().unwrap();
        assert_eq!(fresh, trainer(8, 1).state().unwrap());
        assert_ne!(fresh, trainer(8, 2).state().unwrap(), "another seed");
        first.run_epoch(&data, &mut |_| ()).unwrap();
        let state = first.state().unwrap();
        assert_ne!(state, fresh);
        let next = |seed| {
            let mut second = trainer(8, seed);
            second.set_state(&state).unwrap();
            assert_eq!(second.state().unwrap(), state);
            second.run_epoch(&data, &mut |_| ()).unwrap();
            second.state().unwrap()
        };
        assert_eq!(next(2), next(2));
        assert_ne!(next(2), next(3), "the seed decides the order of the data");
    }

    #[test]
    fn bytes_that_are_no_state_of_the_network_are_refused_and_change_nothing() {
        let mut first = trainer(8, 1);
        let good = first.state().unwrap();
        let mut refuse = |bytes: &[u8], part: &str| {
            let text = first.set_state(bytes).unwrap_err().to_string();
            assert!(text.contains("expected") && text.contains(part), "{text}");
        };
        refuse(&good[..good.len() - 1], "bytes");
        refuse(&[good.as_slice(), &[0]].concat(), "bytes");
        refuse(&trainer(9, 1).state().unwrap(), "bytes");
        let mut other = good.clone();
        other[0] ^= 1;
        refuse(&other, "begins");
        for (place, value) in [(8, f32::NAN), (good.len() - 4, f32::INFINITY)] {
            let mut other = good.clone();
            other[place..place + 4].copy_from_slice(&value.to_le_bytes());
            refuse(&other, "finite");
        }
        assert_eq!(first.state().unwrap(), good);
    }
}
