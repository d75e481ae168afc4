//! The canonical integer artefact: what a miner commits to, what travels, and what every full node scores.
//!
//! One network has one byte string and every other byte string is refused:
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 8 | `podlmodl` |
//! | 2 | engine version |
//! | 3 | input channels, height, width |
//! | 2 | classes |
//! | 2, 2, 2 | dense width, activation `[int, frac]`, weight `[int, frac]` |
//! | 1 | convolution layers |
//! | 11 each | kernel height, width; filters (2 bytes); stride height, width; pool; activation; weight |
//! | then | every layer in order, the hidden and the output layer last: weights, then biases |
//!
//! A tensor's values are packed at `int + frac` bits each in two's complement, lowest bit first, and fill whole bytes
//! with zeros. So a value out of range cannot be written, and the length follows from the header, which is checked
//! before anything is allocated. Weights are ordered `[output][input channel][row][column]`; the hidden layer's inputs
//! are the last convolution's outputs in the order channel, row, column.

mod bits;
mod decode;

use podl_consensus::workload::{ConvLayer, DenseConfig, FixedPoint, InputShape, Network};

use bits::BitWriter;
pub use decode::{decode, decode_network};

/// Version of the artefact format and of the integer engine, which chain specifications name.
pub const ENGINE_VERSION: u16 = 1;

/// Most bits of a weight, so that it fits the engine's 16-bit words.
pub const MOST_BITS: u32 = 14;

const MAGIC: &[u8; 8] = b"podlmodl";
/// Bytes before the first layer description.
const HEADER_BYTES: usize = 22;
/// Bytes of one convolution layer's description.
const LAYER_BYTES: usize = 11;

/// Weights and biases of one layer, as integers on the grid of its weight format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `[output][input channel][row][column]`; dense layers `[output][input]`.
    pub weights: Vec<i16>,
    /// One for each output.
    pub biases: Vec<i16>,
}

/// Why parameters do not make a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Another number of layers.
    #[error("parameters of {got} layers, the network has {expected} (dense layers included)")]
    Layers {
        /// What there is.
        got: usize,
        /// What the network needs.
        expected: usize,
    },
    /// Another number of weights or biases.
    #[error("layer {layer}: {got} {what}, expected {expected}")]
    Count {
        /// Which layer, the hidden and the output layer last.
        layer: usize,
        /// Weights or biases.
        what: &'static str,
        /// What there is.
        got: usize,
        /// What the network needs.
        expected: u64,
    },
    /// A value that its format cannot hold.
    #[error("layer {layer}: a value of {got}, expected {low} to {high}")]
    Range {
        /// Which layer.
        layer: usize,
        /// The value.
        got: i16,
        /// Least of the format.
        low: i64,
        /// Greatest of the format.
        high: i64,
    },
    /// A format of 0 or of more than 14 bits.
    #[error("layer {layer}: formats of {got} bits, expected 1 to 14")]
    Bits {
        /// Which layer.
        layer: usize,
        /// Total bits.
        got: u32,
    },
}

/// An integer network with its parameters; always within its formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    network: Network,
    layers: Vec<Parameters>,
}

/// Numbers of outputs and of weights, and the weight format, of each layer in order.
fn tensor_sizes(network: &Network) -> impl Iterator<Item = (u64, u64, FixedPoint)> + '_ {
    let convs = network.convs.iter().map(|conv| {
        let outputs = u64::from(conv.out_channels());
        (outputs, outputs * conv.fan_in(), conv.layer.weight)
    });
    let dense = [network.hidden, network.output];
    convs.chain(dense.into_iter().map(|shape| (shape.outputs.into(), shape.macs(), network.dense.weight)))
}

impl Model {
    /// A model of these parameters: those of every convolution, then hidden and output layer.
    ///
    /// # Errors
    /// [`ModelError`] when a count or a value does not fit the network.
    pub fn new(network: Network, layers: Vec<Parameters>) -> Result<Self, ModelError> {
        let expected = network.convs.len() + 2;
        if layers.len() != expected {
            return Err(ModelError::Layers { got: layers.len(), expected });
        }
        let acts = network.convs.iter().map(|conv| conv.layer.act).chain([network.dense.act; 2]);
        for (layer, (((outputs, weights, format), act), parameters)) in
            tensor_sizes(&network).zip(acts).zip(&layers).enumerate()
        {
            for got in [format.total_bits(), act.total_bits()] {
                if !(1..=MOST_BITS).contains(&got) {
                    return Err(ModelError::Bits { layer, got });
                }
            }
            check_tensor(layer, "weights", &parameters.weights, weights, format)?;
            check_tensor(layer, "biases", &parameters.biases, outputs, format)?;
        }
        Ok(Self { network, layers })
    }

    /// The network's shapes and formats.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Parameters of every convolution, then of hidden and output layer.
    pub fn layers(&self) -> &[Parameters] {
        &self.layers
    }

    /// The artefact: the one byte string of this model.
    pub fn encode(&self) -> Vec<u8> {
        let network = &self.network;
        let length = encoded_bytes(network).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&ENGINE_VERSION.to_le_bytes());
        put_header(&mut bytes, network.input, network.classes, network.dense);
        // At most 255 layers: spaces count them in a byte.
        bytes.push(u8::try_from(network.convs.len()).unwrap_or(u8::MAX));
        for conv in &network.convs {
            put_layer(&mut bytes, &conv.layer);
        }
        for ((_, _, format), parameters) in tensor_sizes(network).zip(&self.layers) {
            for tensor in [&parameters.weights, &parameters.biases] {
                let mut writer = BitWriter::new(&mut bytes);
                tensor.iter().for_each(|&value| writer.put(value, format.total_bits()));
                writer.finish();
            }
        }
        bytes
    }

    /// The model root: BLAKE3 of the artefact. (No domain: blobs travel by the same root.)
    pub fn root(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }
}

fn check_tensor(
    layer: usize,
    what: &'static str,
    values: &[i16],
    expected: u64,
    format: FixedPoint,
) -> Result<(), ModelError> {
    if values.len() as u64 != expected {
        return Err(ModelError::Count { layer, what, got: values.len(), expected });
    }
    let (low, high) = format.signed_range();
    match values.iter().find(|&&value| !(low..=high).contains(&value.into())) {
        Some(&got) => Err(ModelError::Range { layer, got, low, high }),
        None => Ok(()),
    }
}

fn put_header(bytes: &mut Vec<u8>, input: InputShape, classes: u16, dense: DenseConfig) {
    bytes.extend_from_slice(&[input.channels, input.height, input.width]);
    bytes.extend_from_slice(&classes.to_le_bytes());
    bytes.extend_from_slice(&dense.width.to_le_bytes());
    bytes.extend_from_slice(&<[u8; 2]>::from(dense.act));
    bytes.extend_from_slice(&<[u8; 2]>::from(dense.weight));
}

fn put_layer(bytes: &mut Vec<u8>, layer: &ConvLayer) {
    bytes.extend_from_slice(&layer.kernel);
    bytes.extend_from_slice(&layer.filters.to_le_bytes());
    bytes.extend_from_slice(&layer.stride);
    bytes.push(layer.pool);
    bytes.extend_from_slice(&<[u8; 2]>::from(layer.act));
    bytes.extend_from_slice(&<[u8; 2]>::from(layer.weight));
}

/// Bytes of the artefact of a network, `None` beyond 64 bits.
pub fn encoded_bytes(network: &Network) -> Option<u64> {
    let mut total = (HEADER_BYTES as u64).checked_add(network.convs.len() as u64 * LAYER_BYTES as u64)?;
    for (outputs, weights, format) in tensor_sizes(network) {
        for count in [weights, outputs] {
            total = total.checked_add(count.checked_mul(format.total_bits().into())?.div_ceil(8))?;
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests;
