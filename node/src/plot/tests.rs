use resvg::usvg::roxmltree::Document;

use super::*;

fn axis(title: &str, ticks: Ticks) -> Axis {
    Axis { title: title.into(), ticks }
}

/// One of everything.
fn chart() -> Chart {
    let line: Vec<[f64; 2]> = (0..30).map(|x| [f64::from(x), f64::from(x * x) / 900.0]).collect();
    let band = line.iter().map(|&[x, y]| [x, y - 0.1, y + 0.1]).collect();
    let series = |label: &str, colour, marks| Series { label: label.into(), colour, marks };
    Chart {
        title: "A title & more".into(),
        x: axis("blocks", Ticks::Counts),
        y: axis("share <of all>", Ticks::Fractions),
        series: vec![
            series("95 % of runs", Colour::Sky, Marks::Band(band)),
            series("mean", Colour::Blue, Marks::Line(line.clone())),
            series("runs", Colour::Vermilion, Marks::Points(line.clone())),
            series("", Colour::Grey, Marks::ThinLine(line)),
        ],
    }
}

fn bars() -> Chart {
    let bar = |x: f64, value: f64| Bar { x, value, interval: [value - 0.05, value + 0.07] };
    let names = ["alone", "pool of 3", "pool of 9"].map(String::from).to_vec();
    let marks = Marks::Bars(vec![bar(0.0, 0.4), bar(1.0, 0.61), bar(2.0, 0.7)]);
    Chart {
        title: "Bars".into(),
        x: axis("miners", Ticks::Names(names)),
        y: axis("best accuracy", Ticks::Fractions),
        series: vec![Series { label: "mean of 20 seeds".into(), colour: Colour::Green, marks }],
    }
}

/// How often an element stands in a file, and all its text.
fn elements(svg: &str, name: &str) -> (usize, String) {
    let document = Document::parse(svg).unwrap();
    let found: Vec<_> = document.descendants().filter(|node| node.has_tag_name(name)).collect();
    (found.len(), found.iter().filter_map(|node| node.text()).map(str::trim).collect::<Vec<_>>().join("|"))
}

#[test]
fn svg_is_well_formed_and_holds_everything() {
    let svg = chart().svg().unwrap();
    // 30 points and the legend's sample.
    assert_eq!(elements(&svg, "circle").0, 31);
    let (_, text) = elements(&svg, "text");
    for expected in ["A title & more", "blocks", "share <of all>", "95 % of runs", "mean", "runs", "0.4", "20"] {
        assert!(text.split('|').any(|part| part == expected), "{expected} in {text}");
    }
    assert_eq!(svg, chart().svg().unwrap(), "the same figure is the same file");
    let svg = bars().svg().unwrap();
    assert!(["alone", "pool of 3", "pool of 9"].iter().all(|name| elements(&svg, "text").1.contains(name)));
    // Background, three bars and the legend's sample.
    assert_eq!(elements(&svg, "rect").0, 5);
}

#[test]
fn png_has_its_size_and_shows_the_colours() {
    // A line between two corners is about a thousand pixels long and five thick; dots hide a part of it.
    for (chart, colour, least) in [(chart(), [0, 114, 178], 1_000), (bars(), [0, 158, 115], 100_000)] {
        let png = chart.png().unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), SIZE);
        let count = |colour: [u8; 3]| picture.pixels().filter(|pixel| pixel.0 == colour).count();
        let all = (SIZE.0 * SIZE.1) as usize;
        assert!(count([255; 3]) > all / 3, "white background");
        // Text and axes; the text is there without any font on the machine.
        assert!(count([0; 3]) > 8_000, "{} black pixels", count([0; 3]));
        assert!(count(colour) > least, "{} pixels of {colour:?}", count(colour));
    }
}

#[test]
fn text_stays_within_the_figure() {
    let picture = image::load_from_memory(&chart().png().unwrap()).unwrap().to_luma8();
    let (width, height) = SIZE;
    for (x, y, pixel) in picture.enumerate_pixels() {
        let edge = x < 8 || y < 8 || x >= width - 8 || y >= height - 8;
        assert!(!edge || pixel.0 == [255], "{x} {y}");
    }
}

#[test]
fn data_that_cannot_be_drawn_is_refused() {
    let mut empty = chart();
    empty.series.clear();
    assert!(empty.svg().unwrap_err().to_string().contains("no data"));
    let mut bad = chart();
    bad.series[2].marks = Marks::Points(vec![[0.0, f64::NAN]]);
    assert!(bad.png().unwrap_err().to_string().contains("not a finite number"));
}

#[test]
fn one_point_is_a_figure_too() {
    let mut one = chart();
    one.series.truncate(1);
    one.series[0].marks = Marks::Points(vec![[0.0, 0.0]]);
    assert_eq!(elements(&one.svg().unwrap(), "circle").0, 2);
}

#[test]
fn a_staircase_holds_each_value() {
    assert_eq!(
        steps(&[[0.0, 1.0], [2.0, 3.0], [5.0, 3.0]]),
        [[0.0, 1.0], [2.0, 1.0], [2.0, 3.0], [5.0, 3.0], [5.0, 3.0]]
    );
    assert!(steps(&[]).is_empty());
}
