//! Decoding of artefacts that strangers sent.

use podl_chain_spec::Caps;
use podl_consensus::workload::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape, Network, WorkError};

use super::bits::unpack;
use super::{
    ENGINE_VERSION, HEADER_BYTES, LAYER_BYTES, MAGIC, MOST_BITS, Model, Parameters, encoded_bytes, tensor_sizes,
};

/// Takes fields off the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WorkError> {
        let truncated = WorkError::Truncated { what, got: self.rest.len() as u64, expected: N as u64 };
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, WorkError> {
        self.take(what).map(u16::from_le_bytes)
    }

    fn slice(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], WorkError> {
        let truncated = WorkError::Truncated { what, got: self.rest.len() as u64, expected: length as u64 };
        let (head, rest) = self.rest.split_at_checked(length).ok_or(truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

fn at_most(what: &'static str, got: u64, limit: u64) -> Result<(), WorkError> {
    if got <= limit { Ok(()) } else { Err(WorkError::TooLarge { what, got, limit }) }
}

fn format([int_bits, frac_bits]: [u8; 2], caps: &Caps, what: &'static str) -> Result<FixedPoint, WorkError> {
    let format = FixedPoint::new(int_bits, frac_bits);
    // The engine's own limit stands even if a chain's caps were wider.
    at_most(what, format.total_bits().into(), u64::from(caps.total_bits).min(MOST_BITS.into()))?;
    Ok(format)
}

/// Decodes an artefact. Sizes are checked against the caps, and the length against the header, before anything is
/// allocated; space and bounds are the caller's to check.
///
/// # Errors
/// [`WorkError`] for every byte string that no model encodes to.
pub fn decode(bytes: &[u8], caps: &Caps) -> Result<Model, WorkError> {
    let (network, mut values) = split(bytes, caps)?;
    let layers = read_layers(&mut values, &network)?;
    Model::new(network, layers).map_err(|e| WorkError::NotCanonical { what: e.to_string() })
}

/// The network that an artefact is of, as [`decode`] would have it. Nothing is allocated for its values: of 1 bit each they
/// take sixteen times the bytes of the artefact, which no network is worth that the task does not admit.
///
/// # Errors
/// As [`decode`], but for what is wrong with the values.
pub fn decode_network(bytes: &[u8], caps: &Caps) -> Result<Network, WorkError> {
    split(bytes, caps).map(|(network, _)| network)
}

/// The network and the bytes of its values, which are as many as it needs.
fn split<'a>(bytes: &'a [u8], caps: &Caps) -> Result<(Network, Reader<'a>), WorkError> {
    at_most("the artefact (bytes)", bytes.len() as u64, caps.artefact_bytes.into())?;
    let mut reader = Reader { rest: bytes };
    let network = read_network(&mut reader, caps)?;

    let got = bytes.len() as u64;
    let expected = encoded_bytes(&network).unwrap_or(u64::MAX);
    at_most("the network (artefact bytes)", expected, caps.artefact_bytes.into())?;
    if got < expected {
        return Err(WorkError::Truncated { what: "the artefact", got, expected });
    }
    if got > expected {
        return Err(WorkError::TrailingBytes { what: "the artefact", extra: got - expected });
    }
    Ok((network, reader))
}

fn read_network(reader: &mut Reader<'_>, caps: &Caps) -> Result<Network, WorkError> {
    let header_bytes = HEADER_BYTES as u64;
    if (reader.rest.len() as u64) < header_bytes {
        let got = reader.rest.len() as u64;
        return Err(WorkError::Truncated { what: "the artefact's header", got, expected: header_bytes });
    }
    if reader.take::<8>("the magic bytes")? != *MAGIC {
        return Err(WorkError::NotCanonical { what: "it does not begin with the magic bytes".into() });
    }
    let got = reader.u16("the version")?;
    if got != ENGINE_VERSION {
        // Not an unknown version of the task's, for which this node would be to blame: whoever made the file chose it.
        return Err(WorkError::NotCanonical {
            what: format!("it is of version {got}, this engine reads {ENGINE_VERSION}"),
        });
    }
    let [channels, height, width] = reader.take("the input shape")?;
    at_most("the number of input channels", channels.into(), caps.input_channels.into())?;
    at_most("the input height", height.into(), caps.input_side.into())?;
    at_most("the input width", width.into(), caps.input_side.into())?;
    let classes = reader.u16("the number of classes")?;
    at_most("the number of classes", classes.into(), caps.classes.into())?;
    let dense = DenseConfig {
        width: reader.u16("the dense width")?,
        act: format(reader.take("the dense activation format")?, caps, "the number of dense activation bits")?,
        weight: format(reader.take("the dense weight format")?, caps, "the number of dense weight bits")?,
    };
    at_most("the dense width", dense.width.into(), caps.dense_width.into())?;
    let [layers] = reader.take("the number of layers")?;
    at_most("the number of convolution layers", layers.into(), caps.conv_layers.into())?;
    let expected = u64::from(layers) * LAYER_BYTES as u64;
    if (reader.rest.len() as u64) < expected {
        let got = reader.rest.len() as u64;
        return Err(WorkError::Truncated { what: "the layer descriptions", got, expected });
    }
    let layers = (0..layers).map(|_| read_layer(reader, caps)).collect::<Result<_, _>>()?;
    let input = InputShape { channels, height, width };
    Network::new(&Architecture { layers }, input, classes, dense)
        .map_err(|e| WorkError::NotCanonical { what: e.to_string() })
}

fn read_layer(reader: &mut Reader<'_>, caps: &Caps) -> Result<ConvLayer, WorkError> {
    let what = "a layer description";
    let kernel: [u8; 2] = reader.take(what)?;
    let filters = reader.u16(what)?;
    let stride: [u8; 2] = reader.take(what)?;
    let [pool] = reader.take(what)?;
    for side in kernel {
        at_most("a kernel side", side.into(), caps.kernel.into())?;
    }
    at_most("the number of filters", filters.into(), caps.filters.into())?;
    for step in stride {
        at_most("a stride", step.into(), caps.stride.into())?;
    }
    at_most("a pool window", pool.into(), caps.pool.into())?;
    let act = format(reader.take(what)?, caps, "the number of activation bits")?;
    let weight = format(reader.take(what)?, caps, "the number of weight bits")?;
    Ok(ConvLayer { kernel, filters, stride, pool, act, weight })
}

fn read_layers(reader: &mut Reader<'_>, network: &Network) -> Result<Vec<Parameters>, WorkError> {
    let mut tensor = |count: u64, bits: u32| {
        // The total length was checked, so every part of it fits.
        let length = usize::try_from((count * u64::from(bits)).div_ceil(8)).unwrap_or(usize::MAX);
        let bytes = reader.slice(length, "a tensor")?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        unpack(bytes, count, bits).ok_or_else(|| WorkError::NotCanonical {
            what: "bits after the last value of a tensor are not zero".into(),
        })
    };
    tensor_sizes(network)
        .map(|(outputs, weights, format)| {
            let bits = format.total_bits();
            Ok(Parameters { weights: tensor(weights, bits)?, biases: tensor(outputs, bits)? })
        })
        .collect()
}
