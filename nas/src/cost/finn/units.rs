//! The estimators of single units: cycles, LUTs and block memory.

/// Where a unit keeps what it stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// The tool chain's default: synthesis decides. The estimators then count weights as block memory, and neither
    /// thresholds nor comparators nor line buffers as LUTs.
    #[default]
    Auto,
    /// In LUTs: weights, thresholds and line buffers.
    Distributed,
    /// Weights within the unit: in LUTs up to a depth of 128, in block memory beyond; the rest as [`Memory::Auto`].
    Embedded,
}

/// Deepest weight memory that an embedded unit keeps in LUTs, in words.
const EMBEDDED_LUT_DEPTH: u64 = 128;
/// Bits of the accumulator type that units are built with unless told otherwise.
const ACCUMULATOR_TYPE_BITS: u64 = 32;
/// Control logic of a matrix-vector unit or a sliding-window unit, in LUTs.
const BASE_LUT: u64 = 300;

/// How far a unit is unrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// Outputs at once; divides the unit's outputs.
    pub pe: u64,
    /// Inputs at once; divides the unit's inputs.
    pub simd: u64,
}

impl Folding {
    /// One input and one output at once.
    pub const LEAST: Self = Self { pe: 1, simd: 1 };
}

/// A matrix-vector unit (MVAU): a convolution after its sliding window, or a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixVector {
    /// Columns of the matrix (MW): input channels x kernel height x kernel width.
    pub inputs: u64,
    /// Rows of the matrix (MH): output channels.
    pub outputs: u64,
    /// Vectors an image: output rows x columns, 1 for a dense layer.
    pub vectors: u64,
    /// Bits of a weight.
    pub weight_bits: u64,
    /// Bits of an input value.
    pub input_bits: u64,
    /// Whether input values have a sign.
    pub is_input_signed: bool,
    /// Bits of an output value; `None` for accumulators put out as they are, without thresholds.
    pub output_bits: Option<u64>,
}

impl MatrixVector {
    /// Clock cycles an image.
    pub fn cycles(&self, folding: Folding) -> u64 {
        (self.outputs / folding.pe) * (self.inputs / folding.simd) * self.vectors
    }

    /// Words of the weight memory.
    pub fn weight_depth(&self, folding: Folding) -> u64 {
        self.inputs * self.outputs / (folding.pe * folding.simd)
    }

    /// Bits of the accumulator: `ceil(alpha + log2(1 + 2^-alpha) + 1)` with `alpha = log2(MW) + k` and
    /// `k = W + A - 1 - [input signed]`, at most the accumulator type's.
    ///
    /// `alpha + log2(1 + 2^-alpha)` is `log2(MW * 2^k + 1)`, and the next whole number above `log2(n)` is the bit
    /// length of `n`: no logarithm is taken, and no machine rounds differently.
    pub fn accumulator_bits(&self) -> u64 {
        let bit_length = u64::from(u64::BITS - self.inputs.leading_zeros());
        let shift = self.weight_bits + self.input_bits - 1 - u64::from(self.is_input_signed);
        (bit_length + shift + 1).min(ACCUMULATOR_TYPE_BITS)
    }

    /// LUTs: `300 + 1.1 PE (mult + tree + acc + thr + cmp) + c2`, rounded down.
    pub fn lut(&self, folding: Folding, memory: Memory) -> u64 {
        let Folding { pe, simd } = folding;
        let bits = self.weight_bits + self.input_bits;
        let multipliers = simd * (2 * bits.div_ceil(6) - 1) * bits;
        let adder_tree = bits * (2 * simd - 1);
        let accumulator = self.accumulator_bits();
        let thresholds = match (self.output_bits, memory) {
            (Some(output_bits), Memory::Distributed) => {
                let levels = (1 << output_bits) - 1;
                let depth = (self.outputs / pe).div_ceil(64);
                levels * accumulator * depth + levels * accumulator
            }
            _ => 0,
        };
        let weights = if self.keeps_weights_in_luts(folding, memory) {
            pe * simd * self.weight_bits * self.weight_depth(folding).div_ceil(64)
        } else {
            0
        };
        BASE_LUT + 11 * pe * (multipliers + adder_tree + accumulator + thresholds) / 10 + weights
    }

    /// Block memories of 18 kbit for the weights.
    pub fn bram18(&self, folding: Folding, memory: Memory) -> u64 {
        if self.keeps_weights_in_luts(folding, memory) {
            return 0;
        }
        bram18(folding.simd * self.weight_bits * folding.pe, self.weight_depth(folding))
    }

    fn keeps_weights_in_luts(&self, folding: Folding, memory: Memory) -> bool {
        match memory {
            Memory::Auto => false,
            Memory::Distributed => true,
            Memory::Embedded => self.weight_depth(folding) <= EMBEDDED_LUT_DEPTH,
        }
    }
}

/// Block memories of 18 kbit for `depth` words of `width` bits, in the shapes that a block can take.
pub fn bram18(width: u64, depth: u64) -> u64 {
    match width {
        1 => depth.div_ceil(16_384),
        2 => depth.div_ceil(8_192),
        3..=4 => depth.div_ceil(4_096) * width.div_ceil(4),
        5..=9 => depth.div_ceil(2_048) * width.div_ceil(9),
        _ if width <= 18 || depth > 512 => depth.div_ceil(1_024) * width.div_ceil(18),
        _ => depth.div_ceil(512) * width.div_ceil(36),
    }
}

/// A sliding-window unit (SWU): cuts the padded image into the vectors of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Input channels.
    pub channels: u64,
    /// Bits of a value.
    pub bits: u64,
    /// Kernel height and width, in pixels.
    pub kernel: [u64; 2],
    /// Horizontal stride.
    pub stride_width: u64,
    /// Columns of the padded image.
    pub row_width: u64,
    /// Rows and columns that the convolution puts out.
    pub output: [u64; 2],
}

impl SlidingWindow {
    /// Clock cycles an image with `simd` channels at once.
    pub fn cycles(&self, simd: u64) -> u64 {
        let fold = self.channels / simd;
        let [rows, columns] = self.output;
        let write = columns * self.kernel[0] * self.kernel[1] * fold;
        let read = self.stride_width * self.row_width * fold;
        self.buffer_depth(simd) + rows * write.max(read)
    }

    /// Words of `simd` values that must have come in before the first window can go out.
    fn buffer_depth(&self, simd: u64) -> u64 {
        let [kernel_height, kernel_width] = self.kernel;
        ((kernel_height - 1) * self.row_width + kernel_width) * (self.channels / simd)
    }

    /// LUTs: the control logic, and the line buffers where they are in LUTs.
    pub fn lut(&self, simd: u64, memory: Memory) -> u64 {
        let buffers = match memory {
            Memory::Distributed => self.bits * simd * self.buffer_depth(simd).div_ceil(38),
            Memory::Auto | Memory::Embedded => 0,
        };
        BASE_LUT + buffers
    }
}

/// Clock cycles an image of a max-pool of `window` x `window` over `rows` x `columns` values of every channel at once:
/// `H^2 (1 + 1/k^2)`, rounded down. The estimators give it no LUTs.
pub fn max_pool_cycles(rows: u64, columns: u64, window: u64) -> u64 {
    rows * columns + rows * columns / (window * window)
}

/// LUTs of a FIFO of `depth` words (at least 1) of `width` bits.
pub fn fifo_lut(depth: u64, width: u64) -> u64 {
    // The next whole number above log2(depth) is the bit length of the last address.
    let address_bits = u64::from(u64::BITS - (depth - 1).leading_zeros());
    2 * address_bits + depth.div_ceil(32) * width.div_ceil(2)
}
