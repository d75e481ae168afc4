//! Builds a graph tensor by tensor. Every tensor has a name and a static shape, and every node writes one tensor.

use super::onnx::{
    AttributeProto, AttributeType, DataType, DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Domain of the quantisers.
pub(super) const QONNX_DOMAIN: &str = "qonnx.custom_op.general";

/// A tensor of the graph: 32-bit floats, or 64-bit integers where indices are needed.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<u32>,
    data_type: DataType,
}

impl Tensor {
    pub(super) fn floats(name: impl Into<String>, shape: &[u32]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), data_type: DataType::Float }
    }

    pub(super) fn integers(name: impl Into<String>, shape: &[u32]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), data_type: DataType::Int64 }
    }

    fn dims(&self) -> impl Iterator<Item = i64> + '_ {
        self.shape.iter().map(|&length| i64::from(length))
    }

    fn info(&self) -> ValueInfoProto {
        let dim = self.dims().map(|length| DimensionProto { dim_value: Some(length) }).collect();
        let tensor = TensorTypeProto { elem_type: self.data_type.into(), shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto { name: self.name.clone(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
    }
}

/// The values that a quantiser can put out: `q * 2^-frac_bits` for the integers `q` of so many bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) frac_bits: u8,
    pub(super) bits: u32,
    pub(super) is_signed: bool,
}

/// `2^-frac_bits`, exactly. Formats have at most 14 bits.
pub(super) fn step(frac_bits: u8) -> f32 {
    1.0 / f32::from(1u16 << frac_bits)
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(value), r#type: AttributeType::Int.into(), ..Default::default() }
}

pub(super) fn ints(name: &str, values: impl IntoIterator<Item = u32>) -> AttributeProto {
    let ints = values.into_iter().map(i64::from).collect();
    AttributeProto { name: name.into(), ints, r#type: AttributeType::Ints.into(), ..Default::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        s: Some(value.as_bytes().to_vec()),
        r#type: AttributeType::String.into(),
        ..Default::default()
    }
}

#[derive(Default)]
pub(super) struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.into(), ..Default::default() } }
    }

    /// The graph's input.
    pub(super) fn input(&mut self, tensor: Tensor) -> Tensor {
        self.graph.input.push(tensor.info());
        tensor
    }

    /// A constant of floats.
    pub(super) fn constant(&mut self, tensor: Tensor, values: impl IntoIterator<Item = f32>) -> Tensor {
        let raw_data = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.initialise(tensor, raw_data)
    }

    /// A constant of integers.
    pub(super) fn integer_constant(&mut self, tensor: Tensor, values: impl IntoIterator<Item = i64>) -> Tensor {
        let raw_data = values.into_iter().flat_map(i64::to_le_bytes).collect();
        self.initialise(tensor, raw_data)
    }

    fn initialise(&mut self, tensor: Tensor, raw_data: Vec<u8>) -> Tensor {
        self.graph.initializer.push(TensorProto {
            dims: tensor.dims().collect(),
            data_type: tensor.data_type.into(),
            name: tensor.name.clone(),
            raw_data,
        });
        tensor
    }

    /// A node of ONNX's own domain.
    pub(super) fn apply(
        &mut self,
        op_type: &str,
        inputs: &[&Tensor],
        output: Tensor,
        attribute: Vec<AttributeProto>,
    ) -> Tensor {
        self.node("", op_type, inputs, output, attribute)
    }

    /// A `Quant` node. Its scale and zero point have the shape `[1]` for a bias and are scalars elsewhere: the public
    /// transformations reshape those of a bias and transpose those of weights unless they are scalars.
    pub(super) fn quantise(&mut self, input: &Tensor, name: &str, grid: Grid, is_bias: bool) -> Tensor {
        let shape: &[u32] = if is_bias { &[1] } else { &[] };
        let scale = self.constant(Tensor::floats(format!("{name}.scale"), shape), [step(grid.frac_bits)]);
        let zero_point = self.constant(Tensor::floats(format!("{name}.zero_point"), shape), [0.0]);
        // At most 16, so exact.
        let bits = grid.bits as f32;
        let bit_width = self.constant(Tensor::floats(format!("{name}.bit_width"), &[]), [bits]);
        let attributes = vec![int("signed", grid.is_signed.into()), int("narrow", 0), text("rounding_mode", "ROUND")];
        let output = Tensor::floats(name, &input.shape);
        self.node(QONNX_DOMAIN, "Quant", &[input, &scale, &zero_point, &bit_width], output, attributes)
    }

    fn node(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&Tensor],
        output: Tensor,
        attribute: Vec<AttributeProto>,
    ) -> Tensor {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|tensor| tensor.name.clone()).collect(),
            output: vec![output.name.clone()],
            name: format!("{op_type}_{}", output.name),
            op_type: op_type.into(),
            attribute,
            domain: domain.into(),
        });
        self.graph.value_info.push(output.info());
        output
    }

    /// The graph with that tensor as its output.
    pub(super) fn finish(mut self, output: &Tensor) -> GraphProto {
        self.graph.value_info.retain(|info| info.name != output.name);
        self.graph.output.push(output.info());
        self.graph
    }
}
