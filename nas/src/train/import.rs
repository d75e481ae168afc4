//! From an integer artefact back to trainable variables: continuing somebody's training.

use candle_core::Tensor;

use super::trainer::{TrainError, Trainer};
use crate::artefact::Model;

impl Trainer {
    /// Takes over a model's parameters as the weights to go on from, exactly: quantising them again gives the same
    /// model. Momentum is not part of a model and stays as it is, zero in a fresh trainer.
    ///
    /// # Errors
    /// [`TrainError::Config`] when the model has other layer sizes than this network.
    pub fn load_model(&mut self, model: &Model) -> Result<(), TrainError> {
        let network = model.network();
        let formats = network.convs.iter().map(|conv| conv.layer.weight).chain([network.dense.weight; 2]);
        let tensors = model.layers().iter().zip(formats).flat_map(|(layer, format)| {
            let step = libm::ldexpf(1.0, -i32::from(format.frac_bits));
            [&layer.weights, &layer.biases].map(|list| list.iter().map(|&q| f32::from(q) * step).collect::<Vec<f32>>())
        });
        let tensors: Vec<Vec<f32>> = tensors.collect();
        let sizes = |lengths: &mut dyn Iterator<Item = usize>| lengths.collect::<Vec<usize>>();
        let (got, expected) =
            (sizes(&mut tensors.iter().map(Vec::len)), sizes(&mut self.vars().map(|var| var.elem_count())));
        if got != expected {
            return Err(TrainError::Config(format!("a model with tensors of {got:?} values, expected {expected:?}")));
        }
        for (var, values) in self.vars().zip(tensors) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network};

    use super::super::{ThreadPool, TrainConfig};
    use super::*;
    use crate::data::generate;

    pub(in super::super) fn trainer(filters: u16, seed: u8) -> Trainer {
        let layer = ConvLayer {
            kernel: [3, 3],
            filters,
            stride: [2, 2],
            pool: 2,
            act: FixedPoint::new(1, 4),
            weight: FixedPoint::new(1, 5),
        };
        let dense = DenseConfig { width: 16, ..DenseConfig::default() };
        let architecture = Architecture { layers: vec![layer; 2] };
        let network = Network::new(&architecture, InputShape::CIFAR, 10, dense).unwrap();
        let table: Vec<i16> = (0..256i16).map(|byte| (byte - 128) * 4).collect();
        let pool = Arc::new(ThreadPool::new(1).unwrap());
        let config = TrainConfig { batch: 32, ..TrainConfig::default() };
        Trainer::new(network, &vec![table; 3], config, [seed; 32], pool).unwrap()
    }

    #[test]
    fn a_loaded_model_is_the_same_model_and_trains_on() {
        let data = generate(&[7; 32], 64);
        let mut first = trainer(8, 1);
        first.run_epoch(&data, &mut |_| ()).unwrap();
        let model = first.quantised_model().unwrap();
        let mut second = trainer(8, 2);
        assert_ne!(second.quantised_model().unwrap().root(), model.root());
        second.load_model(&model).unwrap();
        assert_eq!(second.quantised_model().unwrap().root(), model.root());
        second.run_epoch(&data, &mut |_| ()).unwrap();
        assert_ne!(second.quantised_model().unwrap().root(), model.root());
    }

    #[test]
    fn a_model_of_other_sizes_is_refused() {
        let model = trainer(8, 1).quantised_model().unwrap();
        let text = trainer(12, 1).load_model(&model).unwrap_err().to_string();
        assert!(text.contains("expected"), "{text}");
    }
}
