//! The paper's controller: a recurrent network that makes one decision after the other.
//!
//! Two LSTM layers of 35 units read the embedding (35) of the decision before; every decision has its own embedding and
//! its own softmax head. What the paper leaves open follows the program published with it: weights as PyTorch starts
//! them, an initial state from a normal distribution and a random first input, plain gradient steps.
//!
//! # Correctness
//! Weights are plain numbers, so that a strategy is data: it can be copied, compared and stored. Forward and backward
//! passes are ours: a graph of small tensors costs some twenty times as much as the arithmetic in it, and the order of
//! a library's sums depends on the processor, while a journal of this strategy must replay everywhere. candle is the
//! reference that tests compare with.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::Random;

/// Units of an LSTM layer, and numbers of an embedding.
const UNITS: usize = 35;

/// The four gates of a layer, in the order of PyTorch: input, forget, cell, output.
const GATES: usize = 4 * UNITS;

/// LSTM layers on top of each other.
const LSTM_LAYERS: usize = 2;

/// Step along the gradient, which is summed over a batch.
const LEARNING_RATE: f32 = 0.5;

/// Floats as bits, for exact equality and an exact JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floats(Vec<u32>);

impl Floats {
    fn new(values: impl IntoIterator<Item = f32>) -> Self {
        Self(values.into_iter().map(f32::to_bits).collect())
    }

    fn values(&self) -> Vec<f32> {
        self.0.iter().copied().map(f32::from_bits).collect()
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

/// Weights that are not those of a controller of these choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongWeights {
    /// The first that is missing or of another size.
    name: String,
}

impl fmt::Display for WrongWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the controller's {} is missing or of another size", self.name)
    }
}

impl std::error::Error for WrongWeights {}

/// The network of some weights.
pub(super) struct Controller {
    choices: Vec<usize>,
    /// Weights in the order of [`shapes`].
    weights: Vec<Vec<f32>>,
    /// Matrices of the LSTM layers with rows and columns swapped: a product then goes along rows, which a compiler turns
    /// into vector instructions without another order of its sums.
    turned: [[Vec<f32>; 2]; LSTM_LAYERS],
}

/// What a layer's step was made from, for the way back.
struct LayerTrace {
    input: Vec<f32>,
    hidden: Vec<f32>,
    cell: Vec<f32>,
    /// Gates after their functions.
    gates: Vec<f32>,
    /// The new cell's tanh.
    bent: Vec<f32>,
}

/// One decision of an episode.
struct Trace {
    /// Choice of the decision before.
    before: usize,
    layers: Vec<LayerTrace>,
    /// What the head read.
    top: Vec<f32>,
    /// Log-probability of each choice.
    logs: Vec<f32>,
}

/// Hidden and cell state of each layer.
type State = Vec<[Vec<f32>; 2]>;

impl Controller {
    /// The controller of these choices.
    ///
    /// # Errors
    /// [`WrongWeights`] when `weights` are not of these choices.
    pub(super) fn new(choices: &[usize], weights: &Weights) -> Result<Self, WrongWeights> {
        let shaped = |(name, shape): (String, Vec<usize>)| {
            let values = weights.get(&name).map(Floats::values);
            values.filter(|values| values.len() == shape.iter().product::<usize>()).ok_or(WrongWeights { name })
        };
        let weights: Vec<Vec<f32>> = shapes(choices).into_iter().map(shaped).collect::<Result<_, _>>()?;
        let mut turned: [[Vec<f32>; 2]; LSTM_LAYERS] = Default::default();
        for (layer, pair) in turned.iter_mut().enumerate() {
            for (part, matrix) in pair.iter_mut().enumerate() {
                *matrix = turn(&weights[lstm(choices.len(), layer) + 2 * part]);
            }
        }
        Ok(Self { choices: choices.to_vec(), weights, turned })
    }

    /// Where the episodes of a batch begin.
    fn state(start: &Start) -> State {
        let values = start.state.values();
        let part = |layer: usize, part: usize| values.iter().skip((2 * layer + part) * UNITS).take(UNITS);
        (0..LSTM_LAYERS).map(|layer| [0, 1].map(|which| part(layer, which).copied().collect())).collect()
    }

    /// Decision `at` after `before` was chosen: log-probabilities of its choices, and what they came from.
    fn step(&self, at: usize, before: usize, state: &mut State) -> Trace {
        let mut x = self.weights[embedding(at)].chunks_exact(UNITS).nth(before).unwrap_or(&[0.0; UNITS]).to_vec();
        let mut layers = Vec::with_capacity(LSTM_LAYERS);
        for (layer, state) in state.iter_mut().enumerate() {
            layers.push(self.layer(layer, x, state));
            x = state[0].clone();
        }
        let (rows, bias) = (&self.weights[head(at)], &self.weights[head(at) + 1]);
        let logits = rows.chunks_exact(UNITS).zip(bias).map(|(row, bias)| bias + dot(row, &x));
        Trace { before, layers, logs: log_softmax(logits.collect()), top: x }
    }

    /// One step of an LSTM layer.
    fn layer(&self, layer: usize, input: Vec<f32>, state: &mut [Vec<f32>; 2]) -> LayerTrace {
        let base = lstm(self.choices.len(), layer);
        let biases = self.weights[base + 1].iter().zip(&self.weights[base + 3]);
        let mut gates: Vec<f32> = biases.map(|(a, b)| a + b).collect();
        let [of_input, of_hidden] = &self.turned[layer];
        add_products(&mut gates, of_input, &input);
        add_products(&mut gates, of_hidden, &state[0]);
        for (at, gate) in gates.iter_mut().enumerate() {
            *gate = if at / UNITS == 2 { libm::tanhf(*gate) } else { 1.0 / (1.0 + libm::expf(-*gate)) };
        }
        let gate = |which: usize, unit: usize| gates[which * UNITS + unit];
        let cell: Vec<f32> = (0..UNITS).map(|u| gate(1, u) * state[1][u] + gate(0, u) * gate(2, u)).collect();
        let bent: Vec<f32> = cell.iter().map(|c| libm::tanhf(*c)).collect();
        let hidden = (0..UNITS).map(|u| gate(3, u) * bent[u]).collect();
        let [hidden, cell] = std::mem::replace(state, [hidden, cell]);
        LayerTrace { input, hidden, cell, gates, bent }
    }

    /// One episode: a choice for each decision, drawn with its probability.
    pub(super) fn roll_out(&self, start: &Start, random: &mut Random) -> Vec<u32> {
        let mut state = Self::state(start);
        let mut chosen: Vec<u32> = Vec::with_capacity(self.choices.len());
        for at in 0..self.choices.len() {
            let before = chosen.last().copied().unwrap_or(start.input);
            let logs = self.step(at, before as usize, &mut state).logs;
            chosen.push(pick(&logs, uniform(random)));
        }
        chosen
    }

    /// The decisions of an episode.
    fn retrace(&self, start: &Start, episode: &[u32]) -> Vec<Trace> {
        let mut state = Self::state(start);
        let befores = std::iter::once(&start.input).chain(episode);
        befores.take(self.choices.len()).enumerate().map(|(at, &b)| self.step(at, b as usize, &mut state)).collect()
    }

    /// Weights after one step down the gradient of what REINFORCE descends: minus the sum over the batch of an episode's
    /// log-probability times its advantage.
    pub(super) fn learn(&self, start: &Start, episodes: &[Vec<u32>], advantages: &[f32]) -> Weights {
        let gradient = self.gradient(start, episodes, advantages);
        let stepped = self.weights.iter().zip(gradient).map(|(values, gradient)| {
            Floats::new(values.iter().zip(gradient).map(|(value, slope)| value - LEARNING_RATE * slope))
        });
        shapes(&self.choices).into_iter().map(|(name, _)| name).zip(stepped).collect()
    }

    /// The gradient of that loss, by weight.
    fn gradient(&self, start: &Start, episodes: &[Vec<u32>], advantages: &[f32]) -> Vec<Vec<f32>> {
        let mut gradient: Vec<Vec<f32>> = self.weights.iter().map(|values| vec![0.0; values.len()]).collect();
        for (episode, &advantage) in episodes.iter().zip(advantages) {
            let traces = self.retrace(start, episode);
            // Slopes of hidden and cell states, from the decision after.
            let mut carried: State = vec![[vec![0.0; UNITS], vec![0.0; UNITS]]; LSTM_LAYERS];
            for (at, (trace, &chosen)) in traces.iter().zip(episode).enumerate().rev() {
                self.step_back(at, trace, chosen as usize, advantage, &mut carried, &mut gradient);
            }
        }
        gradient
    }

    /// Adds the gradient of one decision, and makes `carried` that of the state before it.
    fn step_back(
        &self,
        at: usize,
        trace: &Trace,
        chosen: usize,
        advantage: f32,
        carried: &mut State,
        gradient: &mut [Vec<f32>],
    ) {
        let mut slopes = vec![0.0; UNITS];
        for (choice, log) in trace.logs.iter().enumerate() {
            let own = if choice == chosen { 1.0 } else { 0.0 };
            let slope = advantage * (libm::expf(*log) - own);
            let row = choice * UNITS..(choice + 1) * UNITS;
            add(&mut slopes, slope, &self.weights[head(at)][row.clone()]);
            add(&mut gradient[head(at)][row], slope, &trace.top);
            gradient[head(at) + 1][choice] += slope;
        }
        for (layer, trace) in trace.layers.iter().enumerate().rev() {
            add(&mut carried[layer][0], 1.0, &slopes);
            slopes = self.layer_back(layer, trace, &mut carried[layer], gradient);
        }
        let row = trace.before * UNITS..(trace.before + 1) * UNITS;
        if let Some(row) = gradient[embedding(at)].get_mut(row) {
            add(row, 1.0, &slopes);
        }
    }

    /// Adds the gradient of a layer's step, makes `carried` that of its state before, and returns that of its input.
    fn layer_back(
        &self,
        layer: usize,
        trace: &LayerTrace,
        carried: &mut [Vec<f32>; 2],
        gradient: &mut [Vec<f32>],
    ) -> Vec<f32> {
        let mut slopes = [0.0; GATES];
        for unit in 0..UNITS {
            let [i, f, g, o] = [0, 1, 2, 3].map(|which| trace.gates[which * UNITS + unit]);
            let (hidden, bent) = (carried[0][unit], trace.bent[unit]);
            let cell = carried[1][unit] + hidden * o * (1.0 - bent * bent);
            slopes[unit] = cell * g * i * (1.0 - i);
            slopes[UNITS + unit] = cell * trace.cell[unit] * f * (1.0 - f);
            slopes[2 * UNITS + unit] = cell * i * (1.0 - g * g);
            slopes[3 * UNITS + unit] = hidden * bent * o * (1.0 - o);
            carried[1][unit] = cell * f;
        }
        let base = lstm(self.choices.len(), layer);
        let (mut of_input, mut of_hidden) = (vec![0.0; UNITS], vec![0.0; UNITS]);
        for (gate, &slope) in slopes.iter().enumerate() {
            let row = gate * UNITS..(gate + 1) * UNITS;
            add(&mut of_input, slope, &self.weights[base][row.clone()]);
            add(&mut of_hidden, slope, &self.weights[base + 2][row.clone()]);
            add(&mut gradient[base][row.clone()], slope, &trace.input);
            add(&mut gradient[base + 2][row], slope, &trace.hidden);
        }
        add(&mut gradient[base + 1], 1.0, &slopes);
        add(&mut gradient[base + 3], 1.0, &slopes);
        carried[0] = of_hidden;
        of_input
    }
}

/// Where a decision's embedding is in the order of [`shapes`].
fn embedding(at: usize) -> usize {
    3 * at
}

/// Where a decision's head is, its bias after it.
fn head(at: usize) -> usize {
    3 * at + 1
}

/// Where the weights of an LSTM layer are: of its input, their bias, of its hidden state, their bias.
fn lstm(decisions: usize, layer: usize) -> usize {
    3 * decisions + 4 * layer
}

/// A layer's matrix with rows and columns swapped.
fn turn(rows: &[f32]) -> Vec<f32> {
    (0..UNITS).flat_map(|column| rows.iter().skip(column).step_by(UNITS)).copied().collect()
}

/// Adds a product of a turned matrix and a vector.
fn add_products(sums: &mut [f32], turned: &[f32], vector: &[f32]) {
    turned.chunks_exact(GATES).zip(vector).for_each(|(row, factor)| add(sums, *factor, row));
}

fn add(sums: &mut [f32], factor: f32, values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn log_softmax(mut logits: Vec<f32>) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = logits.iter().fold(0.0, |sum, logit| sum + libm::expf(logit - most));
    let norm = most + libm::logf(sum);
    logits.iter_mut().for_each(|logit| *logit -= norm);
    logits
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
    use std::collections::HashMap;

    use candle_core::{D, DType, Device, Tensor, Var};
    use candle_nn::rnn::{LSTMConfig, LSTMState, RNN};
    use candle_nn::{Module, VarBuilder, ops};

    use super::*;

    const CHOICES: [usize; 4] = [3, 2, 5, 1];

    fn controller() -> (Controller, Start) {
        let mut random = Random::new("controller test", &[1; 32], 0);
        let weights = initial_weights(&CHOICES, &mut random);
        (Controller::new(&CHOICES, &weights).unwrap(), Start::draw(&CHOICES, &mut random))
    }

    impl Controller {
        fn log_probability(&self, start: &Start, episode: &[u32]) -> f32 {
            let traces = self.retrace(start, episode);
            traces.iter().zip(episode).map(|(trace, &chosen)| trace.logs[chosen as usize]).sum()
        }
    }

    /// Log-probabilities of the episodes of a batch by candle, and its variables by name.
    fn by_candle(controller: &Controller, start: &Start, episodes: &[Vec<u32>]) -> (Tensor, HashMap<String, Var>) {
        let named = shapes(&CHOICES).into_iter().zip(&controller.weights);
        let vars: HashMap<String, Var> = named
            .map(|((name, shape), values)| {
                let tensor = Tensor::from_vec(values.clone(), shape, &Device::Cpu).unwrap();
                (name, Var::from_tensor(&tensor).unwrap())
            })
            .collect();
        let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let lstm = [0, 1].map(|layer_idx| {
            let config = LSTMConfig { layer_idx, ..LSTMConfig::default() };
            candle_nn::lstm(UNITS, UNITS, config, builder.pp("lstm")).unwrap()
        });
        let part = |values: &Vec<f32>| {
            let row = Tensor::from_slice(values, (1, UNITS), &Device::Cpu).unwrap();
            row.repeat((episodes.len(), 1)).unwrap()
        };
        let mut states: Vec<LSTMState> =
            Controller::state(start).iter().map(|[h, c]| LSTMState::new(part(h), part(c))).collect();
        let mut before = Tensor::full(start.input, episodes.len(), &Device::Cpu).unwrap();
        let mut total = Tensor::zeros(episodes.len(), DType::F32, &Device::Cpu).unwrap();
        for (at, &own) in CHOICES.iter().enumerate() {
            let previous = CHOICES[(at + CHOICES.len() - 1) % CHOICES.len()];
            let embedding = candle_nn::embedding(previous, UNITS, builder.pp(format!("embedding.{at}"))).unwrap();
            let head = candle_nn::linear(UNITS, own, builder.pp(format!("head.{at}"))).unwrap();
            let mut x = embedding.forward(&before).unwrap();
            for (lstm, state) in lstm.iter().zip(&mut states) {
                *state = lstm.step(&x, state).unwrap();
                x = state.h().clone();
            }
            let logs = ops::log_softmax(&head.forward(&x).unwrap(), D::Minus1).unwrap();
            let chosen: Vec<u32> = episodes.iter().map(|episode| episode[at]).collect();
            before = Tensor::from_vec(chosen, episodes.len(), &Device::Cpu).unwrap();
            let picked = logs.gather(&before.unsqueeze(1).unwrap(), 1).unwrap().squeeze(1).unwrap();
            total = (total + picked).unwrap();
        }
        (total, vars)
    }

    #[test]
    fn probabilities_and_gradients_are_candles() {
        let (controller, start) = controller();
        let (episodes, advantages) = ([vec![1, 0, 3, 0], vec![2, 1, 0, 0], vec![2, 1, 4, 0]], [0.7f32, -0.4, 0.1]);
        let (logs, vars) = by_candle(&controller, &start, &episodes);
        for (episode, log) in episodes.iter().zip(logs.to_vec1::<f32>().unwrap()) {
            assert!((controller.log_probability(&start, episode) - log).abs() < 1e-5);
        }
        let weighted = (logs * Tensor::from_slice(&advantages, 3, &Device::Cpu).unwrap()).unwrap();
        let store = weighted.sum_all().unwrap().neg().unwrap().backward().unwrap();
        let ours = controller.gradient(&start, &episodes, &advantages);
        for ((name, _), ours) in shapes(&CHOICES).iter().zip(ours) {
            let theirs = store.get(&vars[name]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(ours.len(), theirs.len());
            let far = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{name}: {far}");
        }
    }

    #[test]
    fn it_has_the_papers_shape() {
        let shapes: BTreeMap<String, Vec<usize>> = shapes(&CHOICES).into_iter().collect();
        assert_eq!(shapes.len(), 4 * 3 + 2 * 4);
        assert_eq!(shapes["lstm.weight_ih_l1"], [140, 35]);
        assert_eq!(shapes["head.2.weight"], [5, 35]);
        // The embedding of a decision reads the choice before it; the first one's that of the last.
        assert_eq!(
            (&shapes["embedding.2.weight"][..], &shapes["embedding.0.weight"][..]),
            (&[2, 35][..], &[1, 35][..])
        );
    }

    #[test]
    fn choices_are_drawn_with_their_probability() {
        let (controller, start) = controller();
        let mut random = Random::new("controller test", &[2; 32], 0);
        let mut counts = BTreeMap::new();
        for _ in 0..2000 {
            *counts.entry(controller.roll_out(&start, &mut random)).or_insert(0u32) += 1;
        }
        let mut sum = 0.0;
        for (episode, count) in counts {
            let probability = controller.log_probability(&start, &episode).exp();
            sum += probability;
            let (expected, deviation) = (2000.0 * probability, (2000.0 * probability).sqrt());
            assert!((count as f32 - expected).abs() < 5.0 * deviation, "{count} for {expected}");
        }
        assert!((sum - 1.0).abs() < 0.02, "all 30 are seen, or nearly");
    }

    #[test]
    fn a_step_makes_what_was_rewarded_more_likely() {
        let (controller, start) = controller();
        let episodes = [vec![2, 0, 4, 0], vec![0, 1, 1, 0]];
        let weights = controller.learn(&start, &episodes, &[0.3, -0.3]);
        let after = Controller::new(&CHOICES, &weights).unwrap();
        let [better, worse] = episodes
            .each_ref()
            .map(|episode| after.log_probability(&start, episode) - controller.log_probability(&start, episode));
        assert!(better > 0.0 && worse < 0.0, "{better} {worse}");
    }

    #[test]
    fn the_same_bits_on_every_processor() {
        let (controller, start) = controller();
        let weights = controller.learn(&start, &[vec![2, 0, 4, 0], vec![0, 1, 1, 0]], &[0.3, -0.3]);
        let mut hasher = blake3::Hasher::new();
        weights.values().flat_map(|floats| &floats.0).for_each(|bits| {
            hasher.update(&bits.to_le_bytes());
        });
        assert_eq!(&hasher.finalize().to_hex()[..16], "dc92d3ec8865b39d");
    }

    #[test]
    fn weights_of_other_choices_are_refused() {
        let (controller, start) = controller();
        let mut weights = controller.learn(&start, &[], &[]);
        weights.insert("head.1.bias".into(), Floats::new([0.0; 3]));
        let refused = Controller::new(&CHOICES, &weights).err().unwrap();
        assert_eq!(refused.to_string(), "the controller's head.1.bias is missing or of another size");
    }

    #[test]
    fn rounding_leaves_no_choice_out() {
        let logs = [0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln()];
        assert_eq!([0.0, 0.2, 0.3, 0.7, 0.8, 0.999_999].map(|u| pick(&logs, u)), [0, 0, 1, 1, 2, 2]);
        assert_eq!(pick(&[f32::NAN, f32::NAN], 0.5), 1);
    }
}
