//! Drawing of one image. All numbers are part of the generator's version.

use super::Random;

/// Rows and columns of an image.
const SIDE: i32 = 32;
const PLANE: usize = 32 * 32;
/// Channels times pixels.
pub(super) const VALUES: usize = 3 * PLANE;

/// 1024 sin(2 pi k / 64) for the first quarter of the circle.
const SINE: [i32; 17] = [0, 100, 200, 297, 392, 483, 569, 650, 724, 792, 851, 903, 946, 980, 1004, 1019, 1024];
/// Steps of a full turn.
const TURN: i32 = 64;
/// Fraction of a pixel in which shapes are measured.
const UNIT: i32 = 1024;

type Colour = [i32; 3];

/// 1024 sin(2 pi angle / 64).
fn sine(angle: i32) -> i32 {
    let angle = angle.rem_euclid(TURN);
    let quarter = |k: i32| SINE[usize::try_from(k).unwrap_or(0).min(16)];
    match angle {
        0..=16 => quarter(angle),
        17..=32 => quarter(32 - angle),
        33..=48 => -quarter(angle - 32),
        _ => -quarter(64 - angle),
    }
}

/// Shapes of about equal area for equal radius. Disc and cross make classes, all five distract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Disc,
    Ring,
    Square,
    Triangle,
    Cross,
}

impl Shape {
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Disc,
            1 => Self::Ring,
            2 => Self::Square,
            3 => Self::Triangle,
            _ => Self::Cross,
        }
    }

    /// Whether the point (u, v) from the centre is inside; all in 1/1024 pixel.
    fn contains(self, u: i32, v: i32, radius: i32) -> bool {
        let part = |thousandths: i32| radius * thousandths / 1000;
        let squared = |n: i32| i64::from(n) * i64::from(n);
        let distance = squared(u) + squared(v);
        match self {
            Self::Disc => distance <= squared(radius),
            Self::Ring => distance <= squared(part(1150)) && distance >= squared(part(600)),
            Self::Square => u.abs().max(v.abs()) <= part(890),
            // Three half planes at 120 degrees: 887/1024 is the sine of 60 degrees, 512/1024 that of 30.
            Self::Triangle => {
                let reach = part(740);
                v <= reach && (u.abs() * 887 - v * 512) / UNIT <= reach
            }
            Self::Cross => {
                let (narrow, wide) = (u.abs().min(v.abs()), u.abs().max(v.abs()));
                narrow <= part(400) && wide <= part(1100)
            }
        }
    }
}

/// A shape in place.
struct Figure {
    shape: Shape,
    centre: [i32; 2],
    radius: i32,
    angle: i32,
}

impl Figure {
    /// Coordinates of a pixel relative to the figure's centre, turned by `angle`, in 1/1024 pixel.
    fn local(&self, x: i32, y: i32, angle: i32) -> (i32, i32) {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let (sin, cos) = (sine(angle), sine(angle + TURN / 4));
        (dx * cos + dy * sin, dy * cos - dx * sin)
    }
}

/// Which of a figure's two colours a point has: stripes in one of four directions, or checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texture {
    /// Stripes across the direction of so many 64ths of a turn.
    Stripes(i32),
    Checks,
}

impl Texture {
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Stripes(0),
            1 => Self::Stripes(8),
            2 => Self::Stripes(16),
            3 => Self::Stripes(24),
            _ => Self::Checks,
        }
    }

    /// Direction of the texture's grid without its jitter.
    fn angle(self) -> i32 {
        match self {
            Self::Stripes(angle) => angle,
            Self::Checks => 0,
        }
    }

    /// `period` is that of both directions, in 1/1024 pixel.
    fn is_second(self, u: i32, v: i32, period: i32) -> bool {
        let stripe = |n: i32| (2 * n).div_euclid(period).rem_euclid(2) == 1;
        match self {
            Self::Stripes(_) => stripe(u),
            Self::Checks => stripe(u) != stripe(v),
        }
    }
}

/// The image while it is drawn; colours may leave the range of a byte until the end.
struct Canvas {
    values: [i32; VALUES],
}

impl Canvas {
    fn set(&mut self, x: i32, y: i32, colour: Colour) {
        let at = usize::try_from(y * SIDE + x).unwrap_or(0);
        for (channel, value) in colour.into_iter().enumerate() {
            self.values[channel * PLANE + at] = value;
        }
    }

    fn paint(&mut self, figure: &Figure, colour: impl Fn(i32, i32) -> Colour) {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let (u, v) = figure.local(x, y, figure.angle);
                if figure.shape.contains(u, v, figure.radius) {
                    self.set(x, y, colour(x, y));
                }
            }
        }
    }
}

fn any_colour(random: &mut Random) -> Colour {
    [0; 3].map(|_| random.between(30, 225))
}

/// A colour moved towards one of ten hues. Far less than colours vary, so that it gives a class away only a little more
/// often than chance; without any such hint networks take an epoch or two before they learn anything at all.
fn tinted(colour: Colour, hue: u32) -> Colour {
    const TINT: i32 = 34;
    let phase = i32::try_from(hue % 10).unwrap_or(0) * TURN / 10;
    let mut tinted = colour;
    for (value, third) in tinted.iter_mut().zip([0, TURN / 3, 2 * TURN / 3]) {
        *value += TINT * sine(phase + third) / 1024;
    }
    tinted
}

/// A colour at least `least` away from another, over all channels together.
fn colour_apart(random: &mut Random, other: Colour, least: u32) -> Colour {
    loop {
        let colour = any_colour(random);
        let distance: u32 = colour.iter().zip(other).map(|(a, b)| a.abs_diff(b)).sum();
        if distance >= least {
            return colour;
        }
    }
}

/// Draws an image of that class (0 to 9).
pub(super) fn draw(random: &mut Random, label: u32) -> [u8; VALUES] {
    let mut canvas = Canvas { values: [0; VALUES] };
    let ground = tinted(any_colour(random), label + 5);
    draw_ground(&mut canvas, random, ground);
    for _ in 0..random.between(1, 3) {
        draw_distractor(&mut canvas, random);
    }
    draw_figure(&mut canvas, random, label, ground);
    draw_line(&mut canvas, random);
    add_noise(&canvas, random)
}

/// A smooth background: colours at the corners of 8x8 cells, interpolated in between.
fn draw_ground(canvas: &mut Canvas, random: &mut Random, ground: Colour) {
    const CELL: i32 = 8;
    const CORNERS: usize = 5;
    let corners: [Colour; CORNERS * CORNERS] = [[0; 3]; 25].map(|_| ground.map(|v| v + random.between(-45, 45)));
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (fx, fy) = (x % CELL, y % CELL);
            let at = usize::try_from(y / CELL).unwrap_or(0) * CORNERS + usize::try_from(x / CELL).unwrap_or(0);
            let mut colour = [0; 3];
            for (channel, value) in colour.iter_mut().enumerate() {
                let corner = |offset: usize| corners[at + offset][channel];
                let top = corner(0) * (CELL - fx) + corner(1) * fx;
                let bottom = corner(CORNERS) * (CELL - fx) + corner(CORNERS + 1) * fx;
                *value = (top * (CELL - fy) + bottom * fy).div_euclid(CELL * CELL);
            }
            canvas.set(x, y, colour);
        }
    }
}

/// A small plain shape that says nothing about the class.
fn draw_distractor(canvas: &mut Canvas, random: &mut Random) {
    let figure = Figure {
        shape: Shape::of(random.below(5)),
        centre: [random.between(0, SIDE - 1), random.between(0, SIDE - 1)],
        radius: random.between(2 * UNIT, 4 * UNIT),
        angle: random.between(0, TURN - 1),
    };
    let colour = any_colour(random);
    canvas.paint(&figure, |_, _| colour);
}

/// The figure that makes the class: shape = label / 5, texture = label mod 5.
fn draw_figure(canvas: &mut Canvas, random: &mut Random, label: u32, ground: Colour) {
    let figure = Figure {
        shape: if label < 5 { Shape::Disc } else { Shape::Cross },
        centre: [random.between(12, 19), random.between(12, 19)],
        radius: random.between(9 * UNIT, 12 * UNIT),
        angle: random.between(0, TURN - 1),
    };
    let texture = Texture::of(label % 5);
    let angle = texture.angle() + random.between(-3, 3);
    let period = random.between(3 * UNIT, 4 * UNIT);
    let first = tinted(colour_apart(random, ground, 100), label);
    // The second colour is lighter or darker in all channels, so that stripes show in brightness.
    let lightness = first.iter().sum::<i32>();
    let step = if lightness < 3 * 128 { 1 } else { -1 };
    let second = first.map(|value| value + step * random.between(40, 90));
    canvas.paint(&figure, |x, y| {
        let (u, v) = figure.local(x, y, angle);
        if texture.is_second(u, v, period) { second } else { first }
    });
}

/// A line one pixel wide through the middle part, in any direction.
fn draw_line(canvas: &mut Canvas, random: &mut Random) {
    let line = Figure {
        shape: Shape::Square,
        centre: [random.between(6, 25), random.between(6, 25)],
        radius: UNIT,
        angle: random.between(0, TURN - 1),
    };
    let colour = any_colour(random);
    for y in 0..SIDE {
        for x in 0..SIDE {
            if line.local(x, y, line.angle).0.abs() <= UNIT / 2 {
                canvas.set(x, y, colour);
            }
        }
    }
}

/// Adds triangular noise to every value and clamps to bytes.
fn add_noise(canvas: &Canvas, random: &mut Random) -> [u8; VALUES] {
    canvas.values.map(|value| {
        let noise = (i32::from(random.byte()) + i32::from(random.byte()) - 255) * 32 / 255;
        u8::try_from((value + noise).clamp(0, 255)).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_is_the_sine() {
        for angle in -70..70 {
            let exact = (f64::from(angle) * std::f64::consts::TAU / 64.0).sin() * 1024.0;
            assert!((f64::from(sine(angle)) - exact).abs() <= 0.51, "{angle}");
        }
    }

    #[test]
    fn shapes_have_about_equal_area() {
        let radius = 10 * UNIT;
        for number in 0..5 {
            let mut inside = 0;
            for y in -16..=16 {
                for x in -16..=16 {
                    inside += u32::from(Shape::of(number).contains(x * UNIT, y * UNIT, radius));
                }
            }
            assert!((230..360).contains(&inside), "{:?}: {inside}", Shape::of(number));
        }
    }

    #[test]
    fn textures_use_both_colours_equally() {
        for texture in [Texture::Stripes(0), Texture::Checks] {
            let mut second = 0;
            for y in -30..30 {
                for x in -30..30 {
                    second += u32::from(texture.is_second(x * UNIT, y * UNIT, 6 * UNIT));
                }
            }
            assert!((1700..1900).contains(&second), "{texture:?}: {second} of 3600");
        }
    }
}
