//! Figures: a [`Chart`] of series becomes SVG text or PNG bytes.
//!
//! Both look the same and need nothing from the machine: text is measured and drawn with DejaVu Sans, which the crate
//! `dejavu` brings (Bitstream Vera licence; the changes of DejaVu are in the public domain). SVG files name that font
//! first and then those that every system has.

mod draw;
mod legend;
mod raster;
#[cfg(test)]
mod tests;
mod ticks;

/// Width and height of every figure, in pixels of the PNG and in user units of the SVG.
pub const SIZE: (u32, u32) = (1600, 1000);

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Stands above the figure.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, the first at the back.
    pub series: Vec<Series>,
}

/// An axis. Its range follows from the data and ends at a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured, with its unit.
    pub title: String,
    /// What stands at the ticks.
    pub ticks: Ticks,
}

/// Labels of an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Ticks {
    /// Whole numbers with thousands separators.
    Counts,
    /// Decimal fractions, with as many digits as the ticks need.
    Fractions,
    /// Names at 0, 1, 2 and so on, for bars.
    Names(Vec<String>),
}

/// Data of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its entry in the legend; none when empty.
    pub label: String,
    /// Its colour.
    pub colour: Colour,
    /// The data and how it is drawn.
    pub marks: Marks,
}

/// How data is drawn. All numbers must be finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Marks {
    /// A dot at each (x, y).
    Points(Vec<[f64; 2]>),
    /// A thick line through all (x, y) in order.
    Line(Vec<[f64; 2]>),
    /// A thin, pale line through all (x, y) in order.
    ThinLine(Vec<[f64; 2]>),
    /// The area between low and high along (x, low, high): a confidence band.
    Band(Vec<[f64; 3]>),
    /// A bar from 0 to `value` at each x.
    Bars(Vec<Bar>),
}

/// One bar, a unit of x apart from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Its middle.
    pub x: f64,
    /// Its height.
    pub value: f64,
    /// Ends of its confidence interval, which is left out when they are equal.
    pub interval: [f64; 2],
}

/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008), without the yellow that vanishes on
/// white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Colour {
    Blue,
    Vermilion,
    Green,
    Purple,
    Sky,
    Grey,
}

/// Why a figure cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Nothing to draw, or a number that is not finite.
    #[error("the figure {title:?} {reason}")]
    Data {
        /// Title of the figure.
        title: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The drawing library failed.
    #[error("drawing a figure: {0}")]
    Draw(String),
}

impl Chart {
    /// The figure as an SVG file.
    ///
    /// # Errors
    /// [`PlotError::Data`] without data or with numbers that are not finite.
    pub fn svg(&self) -> Result<String, PlotError> {
        draw::svg(self)
    }

    /// The figure as a PNG file of [`SIZE`] pixels.
    ///
    /// # Errors
    /// As for [`Chart::svg`].
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        raster::png(&self.svg()?)
    }
}

impl Marks {
    /// The corners of the data: everything that the axes must span.
    fn corners(&self) -> Vec<[f64; 2]> {
        match self {
            Self::Points(points) | Self::Line(points) | Self::ThinLine(points) => points.clone(),
            Self::Band(band) => band.iter().flat_map(|&[x, low, high]| [[x, low], [x, high]]).collect(),
            Self::Bars(bars) => {
                let corners = |bar: &Bar| {
                    let [low, high] = bar.interval;
                    [[bar.x - 0.5, 0.0], [bar.x + 0.5, bar.value], [bar.x, low], [bar.x, high]]
                };
                bars.iter().flat_map(corners).collect()
            }
        }
    }
}

/// The staircase through points in order of x: each y holds until the next x.
pub fn steps(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut line: Vec<[f64; 2]> = Vec::with_capacity(2 * points.len());
    for &[x, y] in points {
        line.extend(line.last().map(|&[_, before]| [x, before]));
        line.push([x, y]);
    }
    line
}
