//! The legend: rows of entries above the plane, where they cover no data.

use plotters::element::{Circle, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, FontStyle, TextStyle};

use super::draw::{Area, LEGEND_ROW, TEXT, failed, font, style};
use super::{Marks, PlotError, Series};

/// Width of the sample before a text, and the space behind an entry.
const SAMPLE: i32 = 64;
const SPACE: i32 = 56;

/// Draws the legend at the top of an area, in the middle, and returns what is left below.
pub(super) fn draw_legend<'a>(area: &Area<'a>, series: &[Series]) -> Result<Area<'a>, PlotError> {
    let text = font(TEXT, FontStyle::Normal).color(&BLACK);
    let mut entries = Vec::new();
    for series in series.iter().filter(|series| !series.label.is_empty()) {
        let (width, _) = area.estimate_text_size(&series.label, &text).map_err(failed)?;
        entries.push((series, SAMPLE + width.cast_signed() + SPACE));
    }
    let rows = rows(&entries, area.dim_in_pixel().0.cast_signed());
    for (row, y) in rows.iter().zip((LEGEND_ROW.cast_signed() / 2..).step_by(LEGEND_ROW as usize)) {
        let width: i32 = row.iter().map(|(_, width)| width).sum::<i32>() - SPACE;
        let mut x = (area.dim_in_pixel().0.cast_signed() - width) / 2;
        for (series, width) in row {
            entry(area, series, (x, y), &text)?;
            x += width;
        }
    }
    let height = u32::try_from(rows.len()).unwrap_or(0) * LEGEND_ROW;
    Ok(area.split_vertically(height).1)
}

/// Entries in rows that are not wider than the area, as far as single entries allow.
fn rows<'a>(entries: &[(&'a Series, i32)], width: i32) -> Vec<Vec<(&'a Series, i32)>> {
    let mut rows: Vec<Vec<(&Series, i32)>> = Vec::new();
    let mut used = width;
    for &(series, entry) in entries {
        if used + entry - SPACE > width {
            rows.push(Vec::new());
            used = 0;
        }
        used += entry;
        if let Some(row) = rows.last_mut() {
            row.push((series, entry));
        }
    }
    rows
}

/// One sample with its text.
fn entry(area: &Area<'_>, series: &Series, (x, y): (i32, i32), text: &TextStyle<'_>) -> Result<(), PlotError> {
    let style = style(series);
    let (left, right) = (x, x + SAMPLE - 16);
    let drawn = match series.marks {
        Marks::Points(_) => area.draw(&Circle::new(((left + right) / 2, y), 8, style)),
        Marks::Line(_) | Marks::ThinLine(_) => area.draw(&PathElement::new(vec![(left, y), (right, y)], style)),
        Marks::Band(_) | Marks::Bars(_) => area.draw(&Rectangle::new([(left, y - 12), (right, y + 12)], style)),
    };
    drawn.map_err(failed)?;
    let text = text.pos(Pos::new(HPos::Left, VPos::Center));
    area.draw_text(&series.label, &text, (x + SAMPLE, y)).map_err(failed)
}
