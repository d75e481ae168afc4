//! Shapes and amounts of work of a network: an architecture resolved for one input.

use super::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape};

/// Bits of an input value in [`Network::mac_bits`]: the 1 + 6 bits that the FPGA cost model gives the input.
///
/// The integer engine holds inputs with 8 fraction bits in 16-bit words, but MAC-bits rank networks by what they
/// would cost in hardware, so the hardware's input format counts. It is the same for all networks of a task.
pub const INPUT_BITS: FixedPoint = FixedPoint::new(1, 6);

/// Why an architecture has no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No layers.
    #[error("the architecture has no layers")]
    NoLayers,
    /// A size that must be at least 1 is 0.
    #[error("layer {layer}: {what} is 0, expected at least 1")]
    Zero {
        /// Which convolution layer, from 0; the dense layers come after the last.
        layer: usize,
        /// Which size.
        what: &'static str,
    },
    /// Sizes or work beyond 64-bit arithmetic.
    #[error("layer {layer}: sizes overflow 64 bits")]
    Overflow {
        /// Which layer.
        layer: usize,
    },
}

/// SAME_UPPER window arithmetic along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Input length.
    pub input: u32,
    /// Zeros (convolution) or nothing (pool) before the input: floor(pad / 2).
    pub pad_low: u32,
    /// The rest of the padding, after the input.
    pub pad_high: u32,
    /// Output length: ceil(input / stride).
    pub output: u32,
}

impl Span {
    /// Windows of `kernel` positions every `stride` over `input` positions. `stride` must not be 0.
    pub fn same_upper(input: u32, kernel: u32, stride: u32) -> Self {
        let output = input.div_ceil(stride);
        let reach = (u64::from(output.saturating_sub(1)) * u64::from(stride)) + u64::from(kernel);
        // At most kernel - 1, so it fits.
        let pad = u32::try_from(reach.saturating_sub(u64::from(input))).unwrap_or(u32::MAX);
        Self { input, pad_low: pad / 2, pad_high: pad - pad / 2, output }
    }

    /// Length with padding.
    pub fn padded(self) -> u32 {
        self.input + self.pad_low + self.pad_high
    }
}

/// Shapes of one convolution layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// The layer's settings.
    pub layer: ConvLayer,
    /// Input channels.
    pub in_channels: u32,
    /// Vertical windows of the convolution.
    pub rows: Span,
    /// Horizontal windows of the convolution.
    pub columns: Span,
    /// Vertical windows of the max-pool.
    pub pool_rows: Span,
    /// Horizontal windows of the max-pool.
    pub pool_columns: Span,
}

impl ConvShape {
    fn new(layer: &ConvLayer, in_channels: u32, height: u32, width: u32) -> Self {
        let rows = Span::same_upper(height, layer.kernel[0].into(), layer.stride[0].into());
        let columns = Span::same_upper(width, layer.kernel[1].into(), layer.stride[1].into());
        let pool = u32::from(layer.pool);
        Self {
            layer: layer.clone(),
            in_channels,
            rows,
            columns,
            pool_rows: Span::same_upper(rows.output, pool, pool),
            pool_columns: Span::same_upper(columns.output, pool, pool),
        }
    }

    /// Output channels.
    pub fn out_channels(&self) -> u32 {
        self.layer.filters.into()
    }

    /// Rows after the max-pool.
    pub fn out_height(&self) -> u32 {
        self.pool_rows.output
    }

    /// Columns after the max-pool.
    pub fn out_width(&self) -> u32 {
        self.pool_columns.output
    }

    /// Products summed into one output value: input channels x kernel height x kernel width.
    pub fn fan_in(&self) -> u64 {
        u64::from(self.in_channels) * u64::from(self.layer.kernel[0]) * u64::from(self.layer.kernel[1])
    }

    /// Multiply-accumulates of one image, those on padding included.
    pub fn macs(&self) -> Option<u64> {
        let positions = u64::from(self.rows.output).checked_mul(self.columns.output.into())?;
        positions.checked_mul(u64::from(self.out_channels()))?.checked_mul(self.fan_in())
    }
}

/// Shape of one dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseShape {
    /// Input values.
    pub inputs: u32,
    /// Output values.
    pub outputs: u32,
}

impl DenseShape {
    /// Multiply-accumulates of one image, which is also the number of weights.
    pub fn macs(self) -> u64 {
        u64::from(self.inputs) * u64::from(self.outputs)
    }
}

/// An architecture resolved for one input, class count and dense configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Image size.
    pub input: InputShape,
    /// Number of classes.
    pub classes: u16,
    /// Formats of the dense layers.
    pub dense: DenseConfig,
    /// Convolution layers from the input on.
    pub convs: Vec<ConvShape>,
    /// Hidden dense layer: flattened channels x rows x columns to `dense.width`.
    pub hidden: DenseShape,
    /// Output layer: `dense.width` to `classes`.
    pub output: DenseShape,
    macs: u64,
    mac_bits: u64,
    parameters: u64,
}

impl Network {
    /// Resolves an architecture. Caps and space are checked elsewhere; this only refuses what has no shape.
    ///
    /// # Errors
    /// [`NetworkError`] for zero sizes and for work beyond 64 bits (trained and in bits).
    pub fn new(
        architecture: &Architecture,
        input: InputShape,
        classes: u16,
        dense: DenseConfig,
    ) -> Result<Self, NetworkError> {
        check_sizes(architecture, input, classes, dense)?;
        let mut convs = Vec::with_capacity(architecture.layers.len());
        let (mut channels, mut height, mut width) = (input.channels.into(), input.height.into(), input.width.into());
        for layer in &architecture.layers {
            let shape = ConvShape::new(layer, channels, height, width);
            (channels, height, width) = (shape.out_channels(), shape.out_height(), shape.out_width());
            convs.push(shape);
        }
        let overflow = NetworkError::Overflow { layer: convs.len() };
        let flat = channels.checked_mul(height).and_then(|n| n.checked_mul(width)).ok_or(overflow)?;
        let hidden = DenseShape { inputs: flat, outputs: dense.width.into() };
        let output = DenseShape { inputs: dense.width.into(), outputs: classes.into() };
        let mut network = Self { input, classes, dense, convs, hidden, output, macs: 0, mac_bits: 0, parameters: 0 };
        network.count()?;
        Ok(network)
    }

    /// The architecture this network was made from.
    pub fn architecture(&self) -> Architecture {
        Architecture { layers: self.convs.iter().map(|c| c.layer.clone()).collect() }
    }

    /// Multiply-accumulates of one forward pass of one image, dense layers included.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Multiply-accumulates of training on one image once: three times the forward pass.
    pub fn training_macs(&self) -> u64 {
        // `count` refused what would overflow.
        self.macs * 3
    }

    /// Sum over layers of multiply-accumulates x input bits x weight bits, a proxy of energy and area. The first
    /// layer's input counts as [`INPUT_BITS`].
    pub fn mac_bits(&self) -> u64 {
        self.mac_bits
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    fn count(&mut self) -> Result<(), NetworkError> {
        let mut input_bits = INPUT_BITS.total_bits();
        let mut rows = Vec::with_capacity(self.convs.len() + 2);
        for conv in &self.convs {
            let weights = conv.fan_in().checked_mul(conv.out_channels().into());
            rows.push((conv.macs(), weights, input_bits, conv.layer.weight.total_bits(), conv.out_channels()));
            input_bits = conv.layer.act.total_bits();
        }
        for shape in [self.hidden, self.output] {
            let macs = Some(shape.macs());
            rows.push((macs, macs, input_bits, self.dense.weight.total_bits(), shape.outputs));
            input_bits = self.dense.act.total_bits();
        }
        for (layer, (macs, weights, input_bits, weight_bits, outputs)) in rows.into_iter().enumerate() {
            let sums = macs.zip(weights).and_then(|(macs, weights)| {
                let bits = macs.checked_mul(u64::from(input_bits) * u64::from(weight_bits))?;
                let parameters = weights.checked_add(outputs.into())?;
                let total = self.macs.checked_add(macs)?;
                total.checked_mul(3)?;
                Some((total, self.mac_bits.checked_add(bits)?, self.parameters.checked_add(parameters)?))
            });
            (self.macs, self.mac_bits, self.parameters) = sums.ok_or(NetworkError::Overflow { layer })?;
        }
        Ok(())
    }
}

fn check_sizes(
    architecture: &Architecture,
    input: InputShape,
    classes: u16,
    dense: DenseConfig,
) -> Result<(), NetworkError> {
    let layers = &architecture.layers;
    if layers.is_empty() {
        return Err(NetworkError::NoLayers);
    }
    let zero = |layer, what| Err(NetworkError::Zero { layer, what });
    if input.values() == 0 {
        return zero(0, "the input size");
    }
    for (index, layer) in layers.iter().enumerate() {
        let [kernel_height, kernel_width] = layer.kernel.map(u32::from);
        let [stride_height, stride_width] = layer.stride.map(u32::from);
        let sizes = [
            (kernel_height, "the kernel height"),
            (kernel_width, "the kernel width"),
            (layer.filters.into(), "the number of filters"),
            (stride_height, "the vertical stride"),
            (stride_width, "the horizontal stride"),
            (layer.pool.into(), "the pool window"),
            (layer.act.total_bits(), "the number of activation bits"),
            (layer.weight.total_bits(), "the number of weight bits"),
        ];
        if let Some((_, what)) = sizes.iter().find(|(size, _)| *size == 0) {
            return zero(index, what);
        }
    }
    let dense_sizes = [
        (u32::from(dense.width), "the dense width"),
        (dense.act.total_bits(), "the number of dense activation bits"),
        (dense.weight.total_bits(), "the number of dense weight bits"),
        (classes.into(), "the number of classes"),
    ];
    match dense_sizes.iter().find(|(size, _)| *size == 0) {
        Some((_, what)) => zero(layers.len(), what),
        None => Ok(()),
    }
}
