//! Drawing with plotters.

use std::fmt::Display;
use std::sync::LazyLock;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::prelude::SVGBackend;
use plotters::style::{BLACK, Color, FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, WHITE, register_font};

use super::legend::draw_legend;
use super::ticks::Scale;
use super::{Bar, Chart, Colour, Marks, PlotError, SIZE, Series};

/// The font's name in files; viewers without it take the next one.
const FONT: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
/// Sizes of text as plotters counts them: 1.24 times the font size.
const TITLE: f64 = 40.0;
pub(super) const TEXT: f64 = 36.0;
/// Heights of title and of one row of the legend, and the empty margin around everything.
const TITLE_HEIGHT: u32 = 76;
pub(super) const LEGEND_ROW: u32 = 48;
const MARGIN: u32 = 28;
/// Between tick labels and the axis' title.
const GAP: u32 = 62;
const THICK: u32 = 5;
const THIN: u32 = 2;
const DOT: u32 = 7;
/// Width of a bar; neighbours are 1 apart.
const BAR_WIDTH: f64 = 0.6;

/// Registers the bundled font with plotters, once.
static FONTS: LazyLock<bool> = LazyLock::new(|| {
    let regular = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
    regular.is_ok() && register_font(FONT, FontStyle::Bold, dejavu::sans::bold()).is_ok()
});

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;

pub(super) fn failed(error: impl Display) -> PlotError {
    PlotError::Draw(error.to_string())
}

pub(super) fn font(size: f64, style: FontStyle) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FONT), size, style)
}

impl Colour {
    pub(super) fn rgb(self) -> RGBColor {
        match self {
            Self::Blue => RGBColor(0, 114, 178),
            Self::Vermilion => RGBColor(213, 94, 0),
            Self::Green => RGBColor(0, 158, 115),
            Self::Purple => RGBColor(204, 121, 167),
            Self::Sky => RGBColor(86, 180, 233),
            Self::Grey => RGBColor(125, 125, 125),
        }
    }
}

/// The figure as SVG.
pub(super) fn svg(chart: &Chart) -> Result<String, PlotError> {
    let scales = scales(chart)?;
    if !*FONTS {
        return Err(failed("the bundled font is damaged"));
    }
    let mut text = String::new();
    draw(chart, scales, SVGBackend::with_string(&mut text, SIZE))?;
    Ok(text)
}

fn draw(chart: &Chart, scales: [Scale; 2], to: SVGBackend<'_>) -> Result<(), PlotError> {
    let root = to.into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let (head, rest) = root.margin(MARGIN, MARGIN, MARGIN, MARGIN).split_vertically(TITLE_HEIGHT);
    head.titled(&chart.title, font(TITLE, FontStyle::Bold).color(&BLACK)).map_err(failed)?;
    let rest = draw_legend(&rest, &chart.series)?;
    let mut plane = axes(chart, scales, &rest)?;
    for series in &chart.series {
        draw_series(&mut plane, series)?;
    }
    root.present().map_err(failed)
}

/// Scales of both axes.
fn scales(chart: &Chart) -> Result<[Scale; 2], PlotError> {
    let corners: Vec<[f64; 2]> = chart.series.iter().flat_map(|series| series.marks.corners()).collect();
    let bad = |reason| Err(PlotError::Data { title: chart.title.clone(), reason });
    if corners.is_empty() {
        return bad("has no data");
    }
    if corners.iter().flatten().any(|value| !value.is_finite()) {
        return bad("has a value that is not a finite number");
    }
    Ok([(0, &chart.x), (1, &chart.y)].map(|(which, axis)| {
        let values = || corners.iter().map(|corner| corner[which]);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        Scale::new(&axis.ticks, low..=high)
    }))
}

/// Draws the axes with grid, ticks and titles, and returns the plane between them.
fn axes<'a, 'b>(chart: &Chart, [x, y]: [Scale; 2], area: &'a Area<'b>) -> Result<Plane<'a, 'b>, PlotError> {
    let text = font(TEXT, FontStyle::Normal);
    let widest = |scale: &Scale| {
        let width = |&at: &f64| area.estimate_text_size(&scale.label(at), &text.color(&BLACK)).map_or(0, |size| size.0);
        scale.at.iter().map(width).max().unwrap_or(0)
    };
    let mut plane = ChartBuilder::on(area)
        .x_label_area_size(TEXT as u32 + GAP)
        .y_label_area_size(widest(&y) + GAP)
        // Half of the last label stands beyond the axis.
        .margin_right(widest(&x) / 2)
        .margin_top(TEXT / 2.0)
        .build_cartesian_2d(x, y)
        .map_err(failed)?;
    plane
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(RGBColor(222, 222, 222).stroke_width(THIN))
        .axis_style(BLACK.stroke_width(THIN))
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_desc(&chart.x.title)
        .y_desc(&chart.y.title)
        .set_all_tick_mark_size(8)
        .draw()
        .map_err(failed)?;
    Ok(plane)
}

fn pairs(points: &[[f64; 2]]) -> Vec<(f64, f64)> {
    points.iter().map(|&[x, y]| (x, y)).collect()
}

/// The look of a kind of marks.
pub(super) fn style(series: &Series) -> ShapeStyle {
    let colour = series.colour.rgb();
    match series.marks {
        Marks::Points(_) => colour.mix(0.75).filled(),
        Marks::Line(_) => colour.stroke_width(THICK),
        Marks::ThinLine(_) => colour.mix(0.45).stroke_width(THIN),
        Marks::Band(_) => colour.mix(0.25).filled(),
        Marks::Bars(_) => colour.filled(),
    }
}

fn draw_series(plane: &mut Plane<'_, '_>, series: &Series) -> Result<(), PlotError> {
    let style = style(series);
    let drawn = match &series.marks {
        Marks::Points(points) => {
            plane.draw_series(pairs(points).into_iter().map(|point| Circle::new(point, DOT, style))).map(drop)
        }
        Marks::Line(points) | Marks::ThinLine(points) => {
            plane.draw_series([PathElement::new(pairs(points), style)]).map(drop)
        }
        Marks::Band(band) => {
            let low = band.iter().map(|&[x, low, _]| (x, low));
            let high = band.iter().rev().map(|&[x, _, high]| (x, high));
            plane.draw_series([Polygon::new(low.chain(high).collect::<Vec<_>>(), style)]).map(drop)
        }
        Marks::Bars(bars) => {
            let rectangle = |bar: &Bar| {
                let half = BAR_WIDTH / 2.0;
                Rectangle::new([(bar.x - half, 0.0), (bar.x + half, bar.value)], style)
            };
            // A bar without height is no rectangle to what draws pixels.
            let tall = bars.iter().filter(|bar| bar.value != 0.0);
            let whiskers = bars.iter().filter(|bar| bar.interval[0] < bar.interval[1]).flat_map(whisker);
            plane.draw_series(tall.map(rectangle)).map(drop).and_then(|()| plane.draw_series(whiskers).map(drop))
        }
    };
    drawn.map_err(failed)
}

/// A confidence interval: a line with a short stroke at each end.
fn whisker(bar: &Bar) -> [PathElement<(f64, f64)>; 3] {
    let ([low, high], x, half) = (bar.interval, bar.x, BAR_WIDTH / 6.0);
    let stroke = |from, to| PathElement::new(vec![from, to], BLACK.stroke_width(THIN + 1));
    [stroke((x, low), (x, high)), stroke((x - half, low), (x + half, low)), stroke((x - half, high), (x + half, high))]
}
