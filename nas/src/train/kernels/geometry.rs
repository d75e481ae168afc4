//! Sizes of a convolution, and the tables of offsets that turn it into products.
//!
//! Tensors between layers are **channels-last**: image, row, column, channel, with the channels of a pixel padded with
//! zeros to whole groups ([`padded`]). With an image's zero padding in place, the taps of one output position lie at
//! the same offsets from its first pixel whatever the position, so that a convolution is one gathered product
//! ([`super::gemm`]) of the padded image: no matrix of patches is made.
//!
//! The gradient of the input is such a product too. With strides, input pixels fall into **phases** (row and column
//! modulo the stride): the pixels of one phase meet the same taps, at neighbouring outputs.

use podl_consensus::workload::ConvShape;

use super::gemm::padded;

/// Output positions of a block that are aimed at: enough to fill the tiles, few enough for the first-level cache.
const POSITIONS: usize = 64;

/// Sizes of one convolution with its pool, all in elements.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Input channels.
    pub channels: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Output channels.
    pub filters: usize,
    /// Factors of one output: kernel height x kernel width x channels.
    pub depth: usize,
    /// Rows and columns after the convolution.
    pub output: [usize; 2],
    /// Rows and columns after the pool.
    pub pooled: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Offset of each tap (row, column, channel) from an output's first pixel in the padded image.
    pub taps: Vec<u32>,
    /// First pixel of each output position of a group or strip in the padded image; fewer images or rows take a prefix.
    pub positions: Vec<u32>,
    /// Parts of the input's gradient.
    pub phases: Vec<Phase>,
    /// How the input is padded.
    pub padding: Padding,
    /// How the gradient of the outputs is padded.
    pub gradient_padding: Padding,
    /// Images of a group: what small images take to fill a block.
    pub group: usize,
    stride: [usize; 2],
    pool: usize,
    pool_low: [usize; 2],
    /// Pooled rows of a strip.
    strip: usize,
}

/// Rows and columns with zeros around them.
#[derive(Clone, Copy, Debug)]
pub struct Padding {
    /// Rows and columns that are kept of the image.
    pub kept: [usize; 2],
    /// Zeros above and left of the image.
    pub low: [usize; 2],
    /// Rows and columns with all zeros.
    pub size: [usize; 2],
    /// Floats of a pixel.
    pub pixel: usize,
}

impl Padding {
    /// Floats of one padded image.
    pub fn image_len(&self) -> usize {
        self.size[0] * self.size[1] * self.pixel
    }
}

/// Input pixels that meet the same taps.
#[derive(Clone, Debug)]
pub struct Phase {
    /// First output pixel of each input pixel's window in the padded gradient, images of a group one after the other.
    pub rows: Vec<u32>,
    /// Each input pixel.
    pub places: Vec<u32>,
    /// Offset of each factor: output row, output column, filter.
    pub depth: Vec<u32>,
    /// Kernel row and column of every tap, in the order of `depth`.
    pub taps: Vec<[usize; 2]>,
}

/// Rows of outputs that are computed together: of whole images, or of one.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// First image and images.
    pub images: [usize; 2],
    /// First pooled row, and the row behind the last.
    pub pooled: [usize; 2],
    /// First row of the convolution, and the row behind the last.
    pub rows: [usize; 2],
}

impl Geometry {
    /// Sizes of a layer. `is_first`: the input is data, of which no gradient is wanted and whose pixels are not padded.
    pub fn new(shape: &ConvShape, is_first: bool) -> Self {
        let size = |n: u32| n as usize;
        let spans = [shape.rows, shape.columns];
        let (channels, filters) = (size(shape.in_channels), size(shape.out_channels()));
        let (kernel, stride) = (shape.layer.kernel.map(usize::from), shape.layer.stride.map(usize::from));
        let (input, output) = (spans.map(|s| size(s.input)), spans.map(|s| size(s.output)));
        let low = spans.map(|s| size(s.pad_low));
        let reach = [0, 1].map(|a| (output[a] - 1) * stride[a] + kernel[a]);
        let padding = Padding {
            kept: [0, 1].map(|a| input[a].min(reach[a].saturating_sub(low[a]))),
            low,
            size: reach,
            pixel: if is_first { channels } else { padded(channels) },
        };
        let pooled = [size(shape.pool_rows.output), size(shape.pool_columns.output)];
        let row = (output[0].div_ceil(pooled[0]) * output[1]).max(1);
        let strip = (POSITIONS / row).clamp(1, pooled[0]);
        let group = if strip < pooled[0] { 1 } else { (POSITIONS / (output[0] * output[1])).max(1) };
        let mut geometry = Self {
            channels,
            input,
            filters,
            depth: kernel[0] * kernel[1] * channels,
            output,
            pooled,
            kernel,
            taps: offsets(kernel, [padding.size[1] * padding.pixel, padding.pixel], channels),
            positions: Vec::new(),
            phases: Vec::new(),
            padding,
            gradient_padding: gradient_padding(input, output, kernel, stride, low, padded(filters)),
            group,
            stride,
            pool: shape.layer.pool.into(),
            pool_low: [size(shape.pool_rows.pad_low), size(shape.pool_columns.pad_low)],
            strip,
        };
        geometry.positions = geometry.position_table();
        if !is_first {
            geometry.phases = geometry.phases();
        }
        geometry
    }

    /// Floats of one input image.
    pub fn image_len(&self) -> usize {
        self.input[0] * self.input[1] * self.padding.pixel
    }

    /// Floats of one output pixel.
    pub fn out_pixel(&self) -> usize {
        padded(self.filters)
    }

    /// Floats of one output image.
    pub fn out_len(&self) -> usize {
        self.pooled[0] * self.pooled[1] * self.out_pixel()
    }

    /// Positions of one image before the pool.
    pub fn image_positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Positions along an axis that pool window `at` covers.
    #[inline(always)]
    pub fn window(&self, axis: usize, at: usize) -> [usize; 2] {
        let (start, low) = (at * self.pool, self.pool_low[axis]);
        [start.saturating_sub(low), (start + self.pool - low).min(self.output[axis])]
    }

    /// Cuts the images `first..first + images` (at most a group) into blocks.
    pub fn blocks(&self, first: usize, images: usize) -> impl Iterator<Item = Block> + '_ {
        (0..self.pooled[0]).step_by(self.strip).map(move |top| {
            let bottom = (top + self.strip).min(self.pooled[0]);
            let rows = [self.window(0, top)[0], self.window(0, bottom - 1)[1]];
            Block { images: [first, images], pooled: [top, bottom], rows }
        })
    }

    /// Positions of a block, image by image.
    pub fn block_positions(&self, block: &Block) -> &[u32] {
        &self.positions[..(block.rows[1] - block.rows[0]) * self.output[1] * block.images[1]]
    }

    /// First float of a block's first window in the padded images of its group.
    pub fn first_pixel(&self, block: &Block) -> usize {
        block.rows[0] * self.stride[0] * self.padding.size[1] * self.padding.pixel
    }

    fn position_table(&self) -> Vec<u32> {
        let rows = self.blocks(0, 1).map(|block| block.rows[1] - block.rows[0]).max().unwrap_or(0);
        let steps = [self.stride[0] * self.padding.size[1], self.stride[1]];
        let one = offsets([rows, self.output[1]], steps.map(|step| step * self.padding.pixel), 1);
        repeat(&one, self.group, self.padding.image_len())
    }

    /// See the module's head: pixels at `y` with `(y + low) % stride == r` meet the kernel rows r, r + stride, ..., of
    /// which the last belongs to the first of their outputs.
    fn phases(&self) -> Vec<Phase> {
        let [vertical, horizontal] = [0, 1].map(|axis| self.axis_phases(axis));
        let (to, pixel) = (self.gradient_padding, self.padding.pixel);
        let mut phases = Vec::new();
        for (v, h) in vertical.iter().flat_map(|v| horizontal.iter().map(move |h| (v, h))) {
            let pixels = v.pixels.iter().flat_map(|&y| h.pixels.iter().map(move |&x| (y, x)));
            let (mut rows, mut places) = (Vec::new(), Vec::new());
            for ((y, top), (x, left)) in pixels {
                places.push(((y * self.input[1] + x) * pixel) as u32);
                rows.push(((top * to.size[1] + left) * to.pixel) as u32);
            }
            phases.push(Phase {
                rows: repeat(&rows, self.group, to.image_len()),
                places: repeat(&places, self.group, self.image_len()),
                depth: offsets([v.taps.len(), h.taps.len()], [to.size[1] * to.pixel, to.pixel], self.filters),
                taps: v.taps.iter().flat_map(|&ky| h.taps.iter().map(move |&kx| [ky, kx])).collect(),
            });
        }
        phases
    }

    fn axis_phases(&self, axis: usize) -> Vec<AxisPhase> {
        let (stride, kernel, low) = (self.stride[axis], self.kernel[axis], self.padding.low[axis]);
        let phase = |r: usize| {
            let taps: Vec<usize> = (r..kernel).step_by(stride).collect::<Vec<_>>().into_iter().rev().collect();
            let first = |y: usize| (y + low) / stride + 1 + self.gradient_padding.low[axis] - taps.len();
            let pixels = (0..self.input[axis]).filter(|y| (y + low) % stride == r);
            AxisPhase { pixels: pixels.map(|y| (y, if taps.is_empty() { 0 } else { first(y) })).collect(), taps }
        };
        (0..stride).map(phase).filter(|phase| !phase.pixels.is_empty()).collect()
    }
}

/// A phase along one axis.
struct AxisPhase {
    /// Input pixels, each with the first output of its window in the padded gradient.
    pixels: Vec<(usize, usize)>,
    /// Places in the kernel, output by output.
    taps: Vec<usize>,
}

/// Offsets row by row, column by column, with `run` neighbours each.
fn offsets(size: [usize; 2], steps: [usize; 2], run: usize) -> Vec<u32> {
    let pixels = (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| y * steps[0] + x * steps[1]));
    // Offsets lie within one group of images, whose size is bounded by the caps of the search space.
    pixels.flat_map(|start| (start..start + run).map(|at| at as u32)).collect()
}

/// The table for `images` images that are `len` floats apart.
fn repeat(table: &[u32], images: usize, len: usize) -> Vec<u32> {
    (0..images).flat_map(|image| table.iter().map(move |at| at + (image * len) as u32)).collect()
}

/// Zeros around the gradient of the outputs, such that every input pixel finds all outputs of its taps.
fn gradient_padding(
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pad_low: [usize; 2],
    pixel: usize,
) -> Padding {
    let low = [0, 1].map(|a| kernel[a].div_ceil(stride[a]) - 1);
    let size = [0, 1].map(|a| low[a] + output[a].max((input[a] - 1 + pad_low[a]) / stride[a] + 1));
    Padding { kept: output, low, size, pixel }
}
