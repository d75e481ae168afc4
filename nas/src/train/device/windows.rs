//! Windows as index tensors: of a convolution over its input, and of a max-pool over the convolution's output.

use candle_core::{Device, Result, Tensor};
use podl_consensus::workload::{ConvShape, Span};

/// Positions that windows read, one window after the other, `None` for padding.
fn positions(rows: &Span, columns: &Span, [ky, kx]: [usize; 2], stride: [usize; 2]) -> Vec<Option<usize>> {
    let at = |span: &Span, window: usize, stride: usize, tap: usize| {
        let padded = window * stride + tap;
        padded.checked_sub(span.pad_low as usize).filter(|&place| place < span.input as usize)
    };
    let (height, width) = (rows.output as usize, columns.output as usize);
    let window = |index: usize| {
        let (y, x) = (at(rows, index / width, stride[0], ky)?, at(columns, index % width, stride[1], kx)?);
        Some(y * columns.input as usize + x)
    };
    (0..height * width).map(window).collect()
}

fn index_tensor(indices: impl IntoIterator<Item = usize>, device: &Device) -> Result<Tensor> {
    // Sizes of layers are far below 2^32.
    let indices: Vec<u32> = indices.into_iter().map(|index| index as u32).collect();
    let len = indices.len();
    Tensor::from_vec(indices, len, device)
}

/// Patches of a convolution.
pub struct Windows {
    taps: usize,
    /// Input position of (tap, output position); behind the last one for padding.
    patches: Tensor,
    /// (tap, output position) of the n-th window that reads an input position; behind the last one for none.
    readers: Tensor,
    inputs: usize,
}

impl Windows {
    /// Windows of a layer.
    pub fn new(shape: &ConvShape, device: &Device) -> Result<Self> {
        let (kernel, stride) = (shape.layer.kernel.map(usize::from), shape.layer.stride.map(usize::from));
        let inputs = shape.rows.input as usize * shape.columns.input as usize;
        let taps = kernel[0] * kernel[1];
        let tap = |tap: usize| positions(&shape.rows, &shape.columns, [tap / kernel[1], tap % kernel[1]], stride);
        let read: Vec<Option<usize>> = (0..taps).flat_map(tap).collect();
        let mut readers = vec![Vec::new(); inputs];
        for (window, position) in read.iter().enumerate() {
            if let Some(position) = position {
                readers[*position].push(window);
            }
        }
        let most = readers.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let nth = |n: usize| readers.iter().map(move |of| of.get(n).copied());
        let readers = index_tensor((0..most).flat_map(nth).map(|window| window.unwrap_or(read.len())), device)?;
        let patches = index_tensor(read.iter().map(|position| position.unwrap_or(inputs)), device)?;
        Ok(Self { taps, patches, readers, inputs })
    }

    /// Patch matrix, (channels x taps) x (output positions x images), of an input of channels x positions x images.
    pub fn patches(&self, input: &Tensor) -> Result<Tensor> {
        let (channels, _, images) = input.dims3()?;
        let columns = self.patches.elem_count() / self.taps * images;
        input.pad_with_zeros(1, 0, 1)?.index_select(&self.patches, 1)?.reshape((channels * self.taps, columns))
    }

    /// Gradient of the input from that of the patch matrix: the reverse of [`Windows::patches`].
    pub fn collect(&self, patches: &Tensor, images: usize) -> Result<Tensor> {
        let channels = patches.dim(0)? / self.taps;
        let padded = patches.reshape((channels, (), images))?.pad_with_zeros(1, 0, 1)?;
        padded.index_select(&self.readers, 1)?.reshape((channels, (), self.inputs, images))?.sum(1)
    }
}

/// Windows of a max-pool.
pub struct Pool {
    /// For every place in a window, the input position of each window; behind the last one for padding.
    places: Vec<Tensor>,
    /// The window that each input position lies in.
    window: Tensor,
    /// Its place there, 1 x positions x 1.
    place: Tensor,
}

impl Pool {
    /// Windows of a layer; `None` when it has no pool.
    pub fn new(shape: &ConvShape, device: &Device) -> Result<Option<Self>> {
        let side = usize::from(shape.layer.pool);
        if side == 1 {
            return Ok(None);
        }
        let inputs = shape.pool_rows.input as usize * shape.pool_columns.input as usize;
        let (mut places, mut window, mut place) = (Vec::new(), vec![0; inputs], vec![0.0f32; inputs]);
        for index in 0..side * side {
            let tap = [index / side, index % side];
            let read = positions(&shape.pool_rows, &shape.pool_columns, tap, [side; 2]);
            for (at, position) in read.iter().enumerate() {
                if let Some(position) = *position {
                    (window[position], place[position]) = (at, index as f32);
                }
            }
            places.push(index_tensor(read.into_iter().map(|position| position.unwrap_or(inputs)), device)?);
        }
        let place = Tensor::from_vec(place, (1, inputs, 1), device)?;
        Ok(Some(Self { places, window: index_tensor(window, device)?, place }))
    }

    /// Maxima of activations (channels x positions x images, none negative), and for each the place that its gradient
    /// goes to, -1 for none. The first of several equal maxima counts; `passes` masks the gradients.
    pub fn forward(&self, values: &Tensor, passes: &Tensor) -> Result<(Tensor, Tensor)> {
        let (channels, _, images) = values.dims3()?;
        let none = Tensor::full(-1.0f32, (channels, 1, images), values.device())?;
        let values = Tensor::cat(&[values, &none], 1)?;
        let passes = passes.to_dtype(values.dtype())?.pad_with_zeros(1, 0, 1)?;
        let shape = (channels, self.places[0].elem_count(), images);
        let mut best = Tensor::full(-1.0f32, shape, values.device())?;
        let mut source = best.clone();
        for (index, place) in self.places.iter().enumerate() {
            let value = values.index_select(place, 1)?;
            // Its number where the gradient passes, else -1.
            let number = passes.index_select(place, 1)?.affine(index as f64 + 1.0, -1.0)?;
            let better = value.gt(&best)?;
            best = better.where_cond(&value, &best)?;
            source = better.where_cond(&number, &source)?;
        }
        Ok((best, source))
    }

    /// Gradient of the activations' sums from that of the maxima.
    pub fn backward(&self, gradient: &Tensor, source: &Tensor) -> Result<Tensor> {
        let mask = source.index_select(&self.window, 1)?.broadcast_eq(&self.place)?;
        super::grid::masked(&mask, &gradient.index_select(&self.window, 1)?)
    }
}
