//! One layer: quantise the weights, multiply, add the bias, activate, pool; and all of it backwards.

use candle_core::{Device, Result, Tensor, Var};
use podl_consensus::workload::{ConvShape, FixedPoint};

use super::super::config::Precision;
use super::super::initial::Parameters;
use super::super::kernels::dense::SgdStep;
use super::grid::{Grid, masked};
use super::windows::{Pool, Windows};

/// What becomes of the sums.
enum Activation {
    Quantised(Grid),
    Relu,
    Identity,
}

/// Parameters of a layer with their momentum, and how it computes.
pub struct Layer {
    parameters: Parameters,
    velocity: [Tensor; 2],
    /// Grid of weights and biases; none in float training.
    grid: Option<Grid>,
    activation: Activation,
    windows: Option<Windows>,
    pool: Option<Pool>,
}

/// What forward leaves for backward.
pub struct Kept {
    input: Tensor,
    /// Weights as the layer used them.
    weights: Tensor,
    /// Of a pool the place, else the mask, of the gradients that pass; none where all do.
    source: Option<Tensor>,
}

/// Gradients of a layer's weights and bias, and of its input where that is asked for.
pub struct Gradients {
    /// Weights, bias.
    pub parameters: [Tensor; 2],
    /// Input.
    pub input: Option<Tensor>,
}

impl Layer {
    /// A layer; `act` is `None` for the last one. Without windows it is dense.
    pub fn new(
        parameters: Parameters,
        weight: FixedPoint,
        act: Option<FixedPoint>,
        precision: Precision,
        conv: Option<&ConvShape>,
        device: &Device,
    ) -> Result<Self> {
        let grid = (precision == Precision::Quantised).then(|| Grid::weights(weight));
        let activation = match (act, precision) {
            (None, _) => Activation::Identity,
            (Some(act), Precision::Quantised) => Activation::Quantised(Grid::activations(act)),
            (Some(_), Precision::Float) => Activation::Relu,
        };
        let velocity = [parameters[0].zeros_like()?, parameters[1].zeros_like()?];
        let windows = conv.map(|shape| Windows::new(shape, device)).transpose()?;
        let pool = conv.map(|shape| Pool::new(shape, device)).transpose()?.flatten();
        Ok(Self { parameters, velocity, grid, activation, windows, pool })
    }

    /// Weights and bias.
    pub fn vars(&self) -> &Parameters {
        &self.parameters
    }

    /// Momentum of both.
    pub fn velocity(&self) -> &[Tensor; 2] {
        &self.velocity
    }

    /// The same, to be replaced by tensors of the same shape.
    pub fn velocity_mut(&mut self) -> &mut [Tensor; 2] {
        &mut self.velocity
    }

    /// Output of an input: channels x positions x images for a convolution, values x images for a dense layer.
    pub fn forward(&self, input: &Tensor) -> Result<(Tensor, Kept)> {
        let [weights, bias] = [self.used(0)?, self.used(1)?];
        let sums = weights.matmul(&self.patches(input)?)?.broadcast_add(&bias.unsqueeze(1)?)?;
        let sums = match &self.windows {
            Some(_) => sums.reshape((weights.dim(0)?, (), input.dim(2)?))?,
            None => sums,
        };
        let (values, passes) = match &self.activation {
            Activation::Quantised(grid) => {
                let (values, inside) = grid.quantise(&sums)?;
                (values, Some(inside))
            }
            Activation::Relu => (sums.relu()?, Some(sums.gt(0.0)?)),
            Activation::Identity => (sums, None),
        };
        let (values, source) = match (&self.pool, passes) {
            (Some(pool), Some(passes)) => {
                let (values, source) = pool.forward(&values, &passes)?;
                (values, Some(source))
            }
            (_, passes) => (values, passes),
        };
        Ok((values, Kept { input: input.clone(), weights, source }))
    }

    /// Gradients from that of the output.
    pub fn backward(&self, kept: &Kept, gradient: &Tensor, input_gradient: bool) -> Result<Gradients> {
        let of_sums = match (&self.pool, &kept.source) {
            (Some(pool), Some(source)) => pool.backward(gradient, source)?,
            (None, Some(mask)) => masked(mask, gradient)?,
            (_, None) => gradient.clone(),
        };
        let of_sums = of_sums.reshape((kept.weights.dim(0)?, ()))?;
        let of_weights = of_sums.matmul(&self.patches(&kept.input)?.t()?)?;
        let parameters = [self.within(0, of_weights)?, self.within(1, of_sums.sum(1)?)?];
        let input = match (&self.windows, input_gradient) {
            (_, false) => None,
            (None, true) => Some(kept.weights.t()?.matmul(&of_sums)?),
            (Some(windows), true) => {
                let patches = kept.weights.t()?.matmul(&of_sums)?;
                Some(windows.collect(&patches, kept.input.dim(2)?)?)
            }
        };
        Ok(Gradients { parameters, input })
    }

    /// One step of descent with Nesterov momentum, as the kernel `sgd`.
    pub fn step(&mut self, gradients: &[Tensor; 2], step: SgdStep) -> Result<()> {
        let [rate, momentum, decay] = [step.rate, step.momentum, step.weight_decay].map(f64::from);
        for ((var, velocity), gradient) in self.parameters.iter().zip(&mut self.velocity).zip(gradients) {
            let value = var.as_detached_tensor();
            let gradient = (gradient + (&value * decay)?)?;
            *velocity = ((&*velocity * momentum)? + &gradient)?;
            let direction = (gradient + (&*velocity * momentum)?)?;
            var.set(&(value - (direction * rate)?)?)?;
        }
        Ok(())
    }

    /// Patch matrix of a convolution, the input itself of a dense layer. Computed again for backward: kept, those of
    /// all layers would fill the device.
    fn patches(&self, input: &Tensor) -> Result<Tensor> {
        self.windows.as_ref().map_or_else(|| Ok(input.clone()), |windows| windows.patches(input))
    }

    fn var(&self, which: usize) -> &Var {
        &self.parameters[which]
    }

    /// A parameter as the layer uses it.
    fn used(&self, which: usize) -> Result<Tensor> {
        let values = self.var(which).as_detached_tensor();
        self.grid.map_or_else(|| Ok(values.clone()), |grid| Ok(grid.quantise(&values)?.0))
    }

    /// Straight-through gradient of a parameter: none outside the range.
    fn within(&self, which: usize, gradient: Tensor) -> Result<Tensor> {
        let Some(grid) = self.grid else { return Ok(gradient) };
        masked(&grid.quantise(&self.var(which).as_detached_tensor())?.1, &gradient)
    }
}
