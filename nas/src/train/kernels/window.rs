//! Windows of a convolution: from image to matrix of patches (`im2col`) and back (`col2im`).
//!
//! Columns of the patch matrix are ordered for what follows the product: the positions of one max-pool window lie in
//! different **planes**, at the same place of each, so that pooling is a maximum of a few contiguous rows. Neighbours
//! within a plane are `stride x pool` input pixels apart; images are therefore first spread into **phases**, in which
//! such pixels are neighbours, with the zero padding in place. Every row of the patch matrix is then a few plain
//! copies, whatever kernel, stride and pool are.

use podl_consensus::workload::ConvShape;

use super::gemm::{Row, TILE, tiles};
use super::simd::{Lanes, dispatch};

/// Floats of one patch block that are aimed at, so that it stays in the second-level cache.
const BLOCK_FLOATS: usize = 64 * 1024;

/// Sizes of one convolution with its pool, all in elements.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Input channels.
    pub channels: usize,
    /// Input rows and columns.
    pub input: [usize; 2],
    /// Output channels.
    pub filters: usize,
    /// Rows of the patch matrix: channels x kernel height x kernel width.
    pub depth: usize,
    /// Rows and columns after the pool.
    pub pooled: [usize; 2],
    /// Positions of a pool window that exist, vertically and horizontally.
    pub planes: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pool: usize,
    /// Rows and columns after the convolution.
    output: [usize; 2],
    pad_low: [usize; 2],
    padded_rows: usize,
    phases: usize,
    phase_width: usize,
    /// Where each tap of a kernel row starts in a row of phases, for every plane column.
    taps: Vec<Vec<usize>>,
}

impl Geometry {
    /// Sizes of a layer.
    pub fn new(shape: &ConvShape) -> Self {
        let size = |n: u32| n as usize;
        let (kernel, stride) = (shape.layer.kernel.map(usize::from), shape.layer.stride.map(usize::from));
        let pool = usize::from(shape.layer.pool);
        let output = [size(shape.rows.output), size(shape.columns.output)];
        let pooled = [size(shape.pool_rows.output), size(shape.pool_columns.output)];
        let planes = output.map(|n| n.min(pool));
        // Input pixels (padding included) that some window of axis `a` reads.
        let reach = |a: usize| ((pooled[a] - 1) * pool + planes[a] - 1) * stride[a] + kernel[a];
        let phases = if pooled[1] == 1 { 1 } else { stride[1] * pool };
        let channels = size(shape.in_channels);
        let phase_width = reach(1).div_ceil(phases);
        let tap = |x: usize| x % phases * phase_width + x / phases;
        let taps = |dx: usize| (0..kernel[1]).map(|kx| tap(dx * stride[1] + kx)).collect();
        Self {
            channels,
            input: [size(shape.rows.input), size(shape.columns.input)],
            filters: size(shape.out_channels()),
            depth: channels * kernel[0] * kernel[1],
            pooled,
            planes,
            kernel,
            stride,
            pool,
            output,
            pad_low: [size(shape.rows.pad_low), size(shape.columns.pad_low)],
            padded_rows: reach(0),
            phases,
            phase_width,
            taps: (0..planes[1]).map(taps).collect(),
        }
    }

    /// Values of one input image.
    pub fn image_len(&self) -> usize {
        self.channels * self.input[0] * self.input[1]
    }

    /// Values of one output image.
    pub fn out_len(&self) -> usize {
        self.filters * self.pooled[0] * self.pooled[1]
    }

    /// Floats of one image spread into phases.
    pub fn phases_len(&self) -> usize {
        self.channels * self.padded_rows * self.phases * self.phase_width
    }

    /// Planes of a pool window.
    pub fn plane_count(&self) -> usize {
        self.planes[0] * self.planes[1]
    }

    /// Start of the phases of (image, channel, padded row).
    #[inline(always)]
    fn row(&self, image: usize, channel: usize, row: usize) -> usize {
        ((image * self.channels + channel) * self.padded_rows + row) * self.phases * self.phase_width
    }

    /// Cuts `images` images into blocks: whole images while their patches are few, else strips of pooled rows.
    pub fn blocks(&self, images: usize) -> Vec<Block> {
        let row = (self.depth * self.plane_count() * self.pooled[1]).max(1);
        let rows = (BLOCK_FLOATS / row).clamp(1, self.pooled[0]);
        let group = if rows < self.pooled[0] { 1 } else { (BLOCK_FLOATS / (row * rows)).clamp(1, images.max(1)) };
        let mut blocks = Vec::new();
        for first in (0..images).step_by(group) {
            for top in (0..self.pooled[0]).step_by(rows) {
                blocks.push(Block::new(self, first, group.min(images - first), top, rows.min(self.pooled[0] - top)));
            }
        }
        blocks
    }
}

/// Part of the work of a layer whose patches are held at once.
#[derive(Clone, Debug)]
pub struct Block {
    /// First image and number of images.
    pub images: [usize; 2],
    /// First pooled row and number of pooled rows.
    pub rows: [usize; 2],
    /// Tiles of one plane.
    pub plane_tiles: usize,
    /// Which columns hold which outputs.
    pub segments: Vec<Segment>,
    /// Rows of patches, cut at tile borders.
    pieces: Vec<Piece>,
    /// (tile, lane) of positions inside a pool window but outside the convolution's output.
    pub outside: Vec<(usize, usize)>,
}

/// A run of columns of one tile that belong to one image.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Tile within a plane.
    pub tile: usize,
    /// First lane.
    pub lane: usize,
    /// Columns.
    pub len: usize,
    /// Image within the block.
    pub image: usize,
    /// First position within the channel plane of the pooled output.
    pub offset: usize,
}

/// A run of columns of one tile that belong to one row of one plane.
#[derive(Clone, Copy, Debug)]
struct Piece {
    tile: usize,
    lane: usize,
    len: usize,
    image: usize,
    /// Topmost padded input row that the windows read.
    row: usize,
    /// First column within the row.
    x: usize,
    /// Horizontal place in the pool window.
    dx: usize,
}

/// Cuts `len` columns from `start` on at tile borders: (tile, lane, done before, length).
fn cut(start: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (tile, lane) = ((start + done) / TILE, (start + done) % TILE);
        let part = (TILE - lane).min(len - done);
        done += part;
        (part > 0).then_some((tile, lane, done - part, part))
    })
}

impl Block {
    fn new(g: &Geometry, first: usize, images: usize, top: usize, rows: usize) -> Self {
        let (width, length) = (g.pooled[1], rows * g.pooled[1]);
        let plane_tiles = tiles(images * length);
        let mut block = Self {
            images: [first, images],
            rows: [top, rows],
            plane_tiles,
            segments: Vec::new(),
            pieces: Vec::new(),
            outside: Vec::new(),
        };
        for image in 0..images {
            block.segments.extend(cut(image * length, length).map(|(tile, lane, done, len)| Segment {
                tile,
                lane,
                len,
                image,
                offset: top * width + done,
            }));
        }
        for plane in 0..g.plane_count() {
            let (dy, dx) = (plane / g.planes[1], plane % g.planes[1]);
            for i in 0..images * rows {
                let y = (top + i % rows) * g.pool + dy;
                block.push_row(g, plane, i * width, [i / rows, y * g.stride[0], dx], y >= g.output[0]);
            }
        }
        block
    }

    /// Adds one row of patches: `place` is (image, first padded row, dx).
    fn push_row(&mut self, g: &Geometry, plane: usize, start: usize, place: [usize; 3], outside: bool) {
        let [image, row, dx] = place;
        for (tile, lane, x, len) in cut(start, g.pooled[1]) {
            let tile = plane * self.plane_tiles + tile;
            self.pieces.push(Piece { tile, lane, len, image, row, x, dx });
            let beyond = (x..x + len).filter(|x| outside || x * g.pool + dx >= g.output[1]);
            self.outside.extend(beyond.map(|at| (tile, lane + at - x)));
        }
    }

    /// Tiles of all planes.
    pub fn tiles(&self, g: &Geometry) -> usize {
        g.plane_count() * self.plane_tiles
    }
}

dispatch!(
    /// Spreads one image into phases, with its zero padding.
    pub fn spread(g: &Geometry, image: &[f32], phases: &mut [f32]) = spread_body
);

#[inline(always)]
fn spread_body<V: Lanes>(g: &Geometry, image: &[f32], phases: &mut [f32]) {
    phases.fill(0.0);
    for_rows(g, |channel, y, padded| {
        let from = &image[(channel * g.input[0] + y) * g.input[1]..][..g.input[1]];
        let to = &mut phases[g.row(0, channel, padded)..][..g.phases * g.phase_width];
        for (phase, to) in to.chunks_exact_mut(g.phase_width).enumerate() {
            let (x, at) = first_pixel(g, phase);
            let (Some(from), Some(to)) = (from.get(x..), to.get_mut(at..)) else { continue };
            match g.phases {
                1 => to.iter_mut().zip(from).for_each(|(to, &from)| *to = from),
                2 => to.iter_mut().zip(from.iter().step_by(2)).for_each(|(to, &from)| *to = from),
                n => to.iter_mut().zip(from.iter().step_by(n)).for_each(|(to, &from)| *to = from),
            }
        }
    });
}

dispatch!(
    /// Collects one image's gradient from phases: the reverse of [`spread`]. Pixels that no window reads get 0.
    pub fn collect(g: &Geometry, phases: &[f32], image: &mut [f32]) = collect_body
);

#[inline(always)]
fn collect_body<V: Lanes>(g: &Geometry, phases: &[f32], image: &mut [f32]) {
    image.fill(0.0);
    for_rows(g, |channel, y, padded| {
        let to = &mut image[(channel * g.input[0] + y) * g.input[1]..][..g.input[1]];
        let from = &phases[g.row(0, channel, padded)..][..g.phases * g.phase_width];
        for (phase, from) in from.chunks_exact(g.phase_width).enumerate() {
            let (x, at) = first_pixel(g, phase);
            let (Some(to), Some(from)) = (to.get_mut(x..), from.get(at..)) else { continue };
            match g.phases {
                1 => to.iter_mut().zip(from).for_each(|(to, &from)| *to = from),
                2 => to.iter_mut().step_by(2).zip(from).for_each(|(to, &from)| *to = from),
                n => to.iter_mut().step_by(n).zip(from).for_each(|(to, &from)| *to = from),
            }
        }
    });
}

/// Calls `body(channel, image row, padded row)` for every row that some window reads.
#[inline(always)]
fn for_rows(g: &Geometry, mut body: impl FnMut(usize, usize, usize)) {
    let rows = g.input[0].min(g.padded_rows.saturating_sub(g.pad_low[0]));
    for channel in 0..g.channels {
        for y in 0..rows {
            body(channel, y, y + g.pad_low[0]);
        }
    }
}

/// First image column that lies in a phase, and its place there.
#[inline(always)]
fn first_pixel(g: &Geometry, phase: usize) -> (usize, usize) {
    let pad = g.pad_low[1];
    let x = (phase + g.phases - pad % g.phases) % g.phases;
    (x, (x + pad) / g.phases)
}

dispatch!(
    /// Writes the tiled patch matrix of a block, `depth` rows a tile; columns behind a plane's last are zero.
    pub fn im2col(g: &Geometry, block: &Block, phases: &[f32], patches: &mut [Row]) = im2col_body
);

#[inline(always)]
fn im2col_body<V: Lanes>(g: &Geometry, block: &Block, phases: &[f32], patches: &mut [Row]) {
    if !(block.images[1] * block.rows[1] * g.pooled[1]).is_multiple_of(TILE) {
        for plane in patches.chunks_exact_mut(block.plane_tiles * g.depth) {
            plane[(block.plane_tiles - 1) * g.depth..].fill([0.0; TILE]);
        }
    }
    for piece in &block.pieces {
        let tile = &mut patches[piece.tile * g.depth..][..g.depth];
        match piece.len {
            32 => copy_piece::<32>(g, piece, phases, tile),
            16 => copy_piece::<16>(g, piece, phases, tile),
            8 => copy_piece::<8>(g, piece, phases, tile),
            4 => copy_piece::<4>(g, piece, phases, tile),
            2 => copy_piece::<2>(g, piece, phases, tile),
            1 => copy_piece::<1>(g, piece, phases, tile),
            _ => copy_piece::<0>(g, piece, phases, tile),
        }
    }
}

/// Copies one piece for every tap of every channel. `LEN` is its length, known to the compiler, or 0.
#[inline(always)]
fn copy_piece<const LEN: usize>(g: &Geometry, piece: &Piece, phases: &[f32], tile: &mut [Row]) {
    let width = g.phases * g.phase_width;
    let taps = g.taps[piece.dx].as_slice();
    let mut rest = tile;
    for channel in 0..g.channels {
        let rows = &phases[g.row(piece.image, channel, piece.row)..][..g.kernel[0] * width];
        for row in rows.chunks_exact(width) {
            let row = &row[piece.x..];
            let (now, later) = rest.split_at_mut(taps.len());
            for (to, &tap) in now.iter_mut().zip(taps) {
                if LEN == 0 {
                    to[piece.lane..][..piece.len].copy_from_slice(&row[tap..][..piece.len]);
                } else if let (Some(to), Some(from)) =
                    (to[piece.lane..].first_chunk_mut::<LEN>(), row[tap..].first_chunk::<LEN>())
                {
                    *to = *from;
                }
            }
            rest = later;
        }
    }
}

dispatch!(
    /// Adds a block's tiled gradient of the patches to the gradient in phases: the reverse of [`im2col`].
    pub fn col2im(g: &Geometry, block: &Block, patches: &[Row], phases: &mut [f32]) = col2im_body
);

#[inline(always)]
fn col2im_body<V: Lanes>(g: &Geometry, block: &Block, patches: &[Row], phases: &mut [f32]) {
    for piece in &block.pieces {
        let tile = &patches[piece.tile * g.depth..][..g.depth];
        match piece.len {
            32 => add_piece::<32>(g, piece, tile, phases),
            16 => add_piece::<16>(g, piece, tile, phases),
            8 => add_piece::<8>(g, piece, tile, phases),
            4 => add_piece::<4>(g, piece, tile, phases),
            2 => add_piece::<2>(g, piece, tile, phases),
            1 => add_piece::<1>(g, piece, tile, phases),
            _ => add_piece::<0>(g, piece, tile, phases),
        }
    }
}

/// Adds one piece, channels innermost: taps of one channel overlap in memory, and reading back at once what was just
/// written elsewhere in a vector would stall.
#[inline(always)]
fn add_piece<const LEN: usize>(g: &Geometry, piece: &Piece, tile: &[Row], phases: &mut [f32]) {
    let taps = g.kernel[0] * g.kernel[1];
    let channel_len = g.padded_rows * g.phases * g.phase_width;
    for ky in 0..g.kernel[0] {
        for kx in 0..g.kernel[1] {
            let start = g.row(piece.image, 0, piece.row + ky) + g.taps[piece.dx][kx] + piece.x;
            let channels = phases[start..].chunks_mut(channel_len);
            let rows = tile[ky * g.kernel[1] + kx..].iter().step_by(taps);
            for (to, from) in channels.zip(rows) {
                if LEN == 0 {
                    let from = &from[piece.lane..][..piece.len];
                    to[..piece.len].iter_mut().zip(from).for_each(|(to, from)| *to += from);
                } else if let (Some(to), Some(from)) =
                    (to.first_chunk_mut::<LEN>(), from[piece.lane..].first_chunk::<LEN>())
                {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
        }
    }
}
