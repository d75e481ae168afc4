//! The paper's controller: a recurrent network that makes one decision after the other.
//!
//! Two LSTM layers of 35 units read the embedding (35) of the decision before; every decision has its own embedding and
//! its own softmax head. What the paper leaves open follows the program published with it: weights as PyTorch starts
//! them, an initial state from a normal distribution and a random first input, plain gradient steps.
//!
//! # Correctness
//! Weights are plain numbers here and candle's tensors live for one call only, so that a strategy is data: it can be
//! copied, compared and stored. Every random number comes from our seeded streams, since candle's generator cannot be
//! seeded. Sums inside matrix products may be ordered otherwise on another kind of processor, where a journal of this
//! strategy may therefore not replay.

use std::collections::{BTreeMap, HashMap};

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::rnn::{LSTM, LSTMConfig, LSTMState, RNN};
use candle_nn::{Embedding, Linear, Module, Optimizer, SGD, VarBuilder, ops};
use serde::{Deserialize, Serialize};

use crate::data::Random;

/// Units of an LSTM layer, and numbers of an embedding.
const UNITS: usize = 35;

/// LSTM layers on top of each other.
const LSTM_LAYERS: usize = 2;

/// Step along the gradient, which is summed over a batch.
const LEARNING_RATE: f64 = 0.5;

/// Floats as bits, for exact equality and an exact JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floats(Vec<u32>);

impl Floats {
    fn new(values: impl IntoIterator<Item = f32>) -> Self {
        Self(values.into_iter().map(f32::to_bits).collect())
    }

    fn tensor(&self, shape: &[usize]) -> Result<Tensor> {
        let values: Vec<f32> = self.0.iter().copied().map(f32::from_bits).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

/// Weights by name.
pub(super) type Weights = BTreeMap<String, Floats>;

/// Where the roll-outs of a batch begin: state of the LSTM layers and the "decision" before the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// Hidden and cell state of each layer, one after the other, 35 numbers each.
    state: Floats,
    /// A choice of the last decision.
    input: u32,
}

impl Start {
    pub(super) fn draw(choices: &[usize], random: &mut Random) -> Self {
        let state = Floats::new((0..2 * LSTM_LAYERS * UNITS).map(|_| normal(random)));
        let last = choices.last().copied().unwrap_or(1);
        Self { state, input: random.below(u32::try_from(last).unwrap_or(u32::MAX)) }
    }
}

/// Shape of every weight, where `choices` holds the number of choices of each decision.
fn shapes(choices: &[usize]) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    for (at, &own) in choices.iter().enumerate() {
        let before = choices[(at + choices.len() - 1) % choices.len()];
        shapes.push((format!("embedding.{at}.weight"), vec![before, UNITS]));
        shapes.push((format!("head.{at}.weight"), vec![own, UNITS]));
        shapes.push((format!("head.{at}.bias"), vec![own]));
    }
    for layer in 0..LSTM_LAYERS {
        for part in ["ih", "hh"] {
            shapes.push((format!("lstm.weight_{part}_l{layer}"), vec![4 * UNITS, UNITS]));
            shapes.push((format!("lstm.bias_{part}_l{layer}"), vec![4 * UNITS]));
        }
    }
    shapes
}

/// Fresh weights: embeddings normal, all else uniform within 1 / sqrt(35).
pub(super) fn initial_weights(choices: &[usize], random: &mut Random) -> Weights {
    let bound = 1.0 / (UNITS as f32).sqrt();
    let mut draw = |name: String, shape: Vec<usize>| {
        let is_embedding = name.starts_with("embedding");
        let number = |_| if is_embedding { normal(random) } else { (2.0 * uniform(random) - 1.0) * bound };
        let count = shape.iter().product();
        (name, Floats::new((0..count).map(number).collect::<Vec<_>>()))
    };
    shapes(choices).into_iter().map(|(name, shape)| draw(name, shape)).collect()
}

/// From 0 to below 1.
pub(super) fn uniform(random: &mut Random) -> f32 {
    // 24 bits are what an f32 holds.
    (random.u32() >> 8) as f32 / 16_777_216.0
}

fn normal(random: &mut Random) -> f32 {
    let mut uniform = || (f64::from(random.u32()) + 0.5) / 4_294_967_296.0;
    let radius = libm::sqrt(-2.0 * libm::log(uniform()));
    (radius * libm::cos(2.0 * std::f64::consts::PI * uniform())) as f32
}

/// The network of some weights.
pub(super) struct Controller {
    vars: HashMap<String, Var>,
    embeddings: Vec<Embedding>,
    lstm: Vec<LSTM>,
    heads: Vec<Linear>,
}

impl Controller {
    /// `weights` must be of these choices.
    pub(super) fn new(choices: &[usize], weights: &Weights) -> Result<Self> {
        let mut vars = HashMap::new();
        for (name, shape) in shapes(choices) {
            let Some(values) = weights.get(&name) else {
                return Err(candle_core::Error::CannotFindTensor { path: name });
            };
            vars.insert(name, Var::from_tensor(&values.tensor(&shape)?)?);
        }
        let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let (mut embeddings, mut heads) = (Vec::new(), Vec::new());
        for (at, &own) in choices.iter().enumerate() {
            let before = choices[(at + choices.len() - 1) % choices.len()];
            embeddings.push(candle_nn::embedding(before, UNITS, builder.pp(format!("embedding.{at}")))?);
            heads.push(candle_nn::linear(UNITS, own, builder.pp(format!("head.{at}")))?);
        }
        let layer = |layer_idx| {
            candle_nn::lstm(UNITS, UNITS, LSTMConfig { layer_idx, ..LSTMConfig::default() }, builder.pp("lstm"))
        };
        let lstm = (0..LSTM_LAYERS).map(layer).collect::<Result<_>>()?;
        Ok(Self { vars, embeddings, lstm, heads })
    }

    /// The same initial state for every episode of a batch.
    fn state(&self, start: &Start, batch: usize) -> Result<Vec<LSTMState>> {
        let state = start.state.tensor(&[LSTM_LAYERS, 2, UNITS])?;
        let part = |layer: usize, part: usize| state.get(layer)?.get(part)?.unsqueeze(0)?.repeat((batch, 1));
        (0..LSTM_LAYERS).map(|layer| Ok(LSTMState::new(part(layer, 0)?, part(layer, 1)?))).collect()
    }

    /// Log-probabilities (batch, choices) of decision `at`, where `before` (batch) was chosen before.
    fn step(&self, at: usize, before: &Tensor, state: &mut [LSTMState]) -> Result<Tensor> {
        let mut x = self.embeddings[at].forward(before)?;
        for (lstm, state) in self.lstm.iter().zip(state) {
            *state = lstm.step(&x, state)?;
            x = state.h().clone();
        }
        ops::log_softmax(&self.heads[at].forward(&x)?, D::Minus1)
    }

    /// One episode: a choice for each decision, drawn with its probability.
    pub(super) fn roll_out(&self, start: &Start, random: &mut Random) -> Result<Vec<u32>> {
        let mut state = self.state(start, 1)?;
        let mut chosen: Vec<u32> = Vec::with_capacity(self.heads.len());
        for at in 0..self.heads.len() {
            let before = chosen.last().copied().unwrap_or(start.input);
            let logs = self.step(at, &Tensor::new(&[before], &Device::Cpu)?, &mut state)?;
            chosen.push(pick(&logs.squeeze(0)?.to_vec1::<f32>()?, uniform(random)));
        }
        Ok(chosen)
    }

    /// Log-probability (batch) of whole episodes.
    pub(super) fn log_probability(&self, start: &Start, episodes: &[Vec<u32>]) -> Result<Tensor> {
        let mut state = self.state(start, episodes.len())?;
        let mut before = Tensor::full(start.input, episodes.len(), &Device::Cpu)?;
        let mut total = Tensor::zeros(episodes.len(), DType::F32, &Device::Cpu)?;
        for at in 0..self.heads.len() {
            let logs = self.step(at, &before, &mut state)?;
            let chosen: Vec<u32> = episodes.iter().map(|episode| episode[at]).collect();
            before = Tensor::from_vec(chosen, episodes.len(), &Device::Cpu)?;
            total = (total + logs.gather(&before.unsqueeze(1)?, 1)?.squeeze(1)?)?;
        }
        Ok(total)
    }

    /// What REINFORCE descends: minus the sum over the batch of log-probability times advantage.
    pub(super) fn loss(&self, start: &Start, episodes: &[Vec<u32>], advantages: &[f32]) -> Result<Tensor> {
        let advantages = Tensor::from_slice(advantages, advantages.len(), &Device::Cpu)?;
        (self.log_probability(start, episodes)? * advantages)?.sum_all()?.neg()
    }

    /// Weights after one step down the gradient of that loss.
    pub(super) fn learn(self, start: &Start, episodes: &[Vec<u32>], advantages: &[f32]) -> Result<Weights> {
        let loss = self.loss(start, episodes, advantages)?;
        let mut descent = SGD::new(self.vars.values().cloned().collect(), LEARNING_RATE)?;
        descent.backward_step(&loss)?;
        let plain = |(name, var): (&String, &Var)| {
            Ok((name.clone(), Floats::new(var.as_tensor().flatten_all()?.to_vec1::<f32>()?)))
        };
        self.vars.iter().map(plain).collect()
    }
}

/// The choice that a uniform number falls on; the last where rounding leaves a gap.
fn pick(logs: &[f32], uniform: f32) -> u32 {
    let mut sum = 0.0;
    for (choice, &log) in (0u32..).zip(logs) {
        sum += libm::expf(log);
        if uniform < sum {
            return choice;
        }
    }
    u32::try_from(logs.len().saturating_sub(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICES: [usize; 4] = [3, 2, 5, 1];

    fn controller() -> (Controller, Start) {
        let mut random = Random::new("controller test", &[1; 32], 0);
        let weights = initial_weights(&CHOICES, &mut random);
        (Controller::new(&CHOICES, &weights).unwrap(), Start::draw(&CHOICES, &mut random))
    }

    fn weights_of(controller: &Controller) -> Weights {
        let plain = |var: &Var| Floats::new(var.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        controller.vars.iter().map(|(name, var)| (name.clone(), plain(var))).collect()
    }

    #[test]
    fn it_has_the_papers_shape() {
        let (controller, _) = controller();
        assert_eq!((controller.lstm.len(), controller.heads.len(), controller.embeddings.len()), (2, 4, 4));
        let shape = |name: &str| controller.vars[name].dims().to_vec();
        assert_eq!(shape("lstm.weight_ih_l1"), [140, 35]);
        assert_eq!(shape("head.2.weight"), [5, 35]);
        // The embedding of a decision reads the choice before it; the first one's that of the last.
        assert_eq!((shape("embedding.2.weight"), shape("embedding.0.weight")), (vec![2, 35], vec![1, 35]));
    }

    #[test]
    fn choices_are_drawn_with_their_probability() {
        let (controller, start) = controller();
        let mut random = Random::new("controller test", &[2; 32], 0);
        let mut counts = BTreeMap::new();
        for _ in 0..2000 {
            *counts.entry(controller.roll_out(&start, &mut random).unwrap()).or_insert(0u32) += 1;
        }
        let episodes: Vec<Vec<u32>> = counts.keys().cloned().collect();
        let logs = controller.log_probability(&start, &episodes).unwrap().to_vec1::<f32>().unwrap();
        assert!((logs.iter().map(|log| log.exp()).sum::<f32>() - 1.0).abs() < 0.02, "all 30 are seen, or nearly");
        for (count, log) in counts.values().zip(logs) {
            let (expected, deviation) = (2000.0 * log.exp(), (2000.0 * log.exp()).sqrt());
            assert!((*count as f32 - expected).abs() < 5.0 * deviation, "{count} for {expected}");
        }
    }

    #[test]
    fn a_step_makes_what_was_rewarded_more_likely() {
        let (controller, start) = controller();
        let episodes = [vec![2, 0, 4, 0], vec![0, 1, 1, 0]];
        let before = controller.log_probability(&start, &episodes).unwrap().to_vec1::<f32>().unwrap();
        let weights = controller.learn(&start, &episodes, &[0.3, -0.3]).unwrap();
        let after = Controller::new(&CHOICES, &weights).unwrap();
        let after = after.log_probability(&start, &episodes).unwrap().to_vec1::<f32>().unwrap();
        assert!(after[0] > before[0] && after[1] < before[1], "{before:?} {after:?}");
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (controller, start) = controller();
        let (episodes, advantages) = ([vec![1, 0, 3, 0], vec![2, 1, 0, 0]], [0.7, -0.4]);
        let store = controller.loss(&start, &episodes, &advantages).unwrap().backward().unwrap();
        let weights = weights_of(&controller);
        let loss_with = |name: &str, at: usize, change: f32| {
            let mut weights = weights.clone();
            let value = &mut weights.get_mut(name).unwrap().0[at];
            *value = (f32::from_bits(*value) + change).to_bits();
            let loss = Controller::new(&CHOICES, &weights).unwrap().loss(&start, &episodes, &advantages);
            loss.unwrap().to_scalar::<f32>().unwrap()
        };
        for name in ["head.2.weight", "head.2.bias", "lstm.weight_hh_l0", "embedding.1.weight"] {
            let gradient = store.get(&controller.vars[name]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for at in (0..gradient.len()).step_by(gradient.len().div_ceil(25)) {
                let numeric = (loss_with(name, at, 0.02) - loss_with(name, at, -0.02)) / 0.04;
                assert!((numeric - gradient[at]).abs() < 2e-3, "{name}[{at}]: {numeric} {}", gradient[at]);
            }
        }
    }

    #[test]
    fn rounding_leaves_no_choice_out() {
        let logs = [0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln()];
        assert_eq!([0.0, 0.2, 0.3, 0.7, 0.8, 0.999_999].map(|u| pick(&logs, u)), [0, 0, 1, 1, 2, 2]);
        assert_eq!(pick(&[f32::NAN, f32::NAN], 0.5), 1);
    }
}
