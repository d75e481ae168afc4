//! The cost model stays quick: on the widest networks that caps allow, since every full node runs it on strangers'
//! models, and line by line, since people and searches ask it about thousands.

use std::time::{Duration, Instant};

use podl_consensus::workload::{Architecture, Bounds, ConvLayer, FixedPoint, InputShape};
use podl_nas::cost::{self, CostModel, Estimator, answer_line};

/// The least time of several runs: a busy machine interrupts some, but hardly all.
fn least_time<T>(runs: usize, run: impl Fn() -> T) -> Duration {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(run());
        start.elapsed()
    };
    (0..runs).map(time).min().unwrap()
}

/// A small linear congruential generator: the test only needs variety.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn byte(&mut self, low: u64, high: u64) -> u8 {
        u8::try_from(low + self.below(high - low + 1)).unwrap()
    }
}

fn widest(draw: &mut Draw) -> Architecture {
    let layers = (0..16).map(|_| ConvLayer {
        kernel: [draw.byte(1, 11), draw.byte(1, 11)],
        filters: u16::try_from(400 + draw.below(113)).unwrap(),
        stride: [draw.byte(1, 2), 1],
        pool: draw.byte(1, 2),
        act: FixedPoint::new(draw.byte(1, 7), draw.byte(0, 7)),
        weight: FixedPoint::new(draw.byte(1, 7), draw.byte(0, 7)),
    });
    Architecture { layers: layers.collect() }
}

#[test]
fn widest_networks_take_milliseconds() {
    let mut draw = Draw(7);
    let mut slowest = Duration::ZERO;
    let mut feasible = 0;
    for _ in 0..200 {
        let architecture = widest(&mut draw);
        let bounds = Bounds { lut: 1 << (12 + draw.below(28)), throughput: 1 + draw.below(50) };
        let input = InputShape { channels: 4, height: 64, width: 64 };
        let evaluate = || cost::evaluate(CostModel::Corrected, &architecture, input, bounds).unwrap();
        let cost = evaluate();
        slowest = slowest.max(least_time(5, evaluate));
        if let Some(cost) = cost {
            feasible += 1;
            assert!(cost.lut <= bounds.lut && cost.is_faster_than(bounds.throughput));
        }
    }
    assert!(feasible > 20, "only {feasible} of 200 feasible: the test does not reach the mapping");
    eprintln!("slowest of 200: {slowest:?}, {feasible} feasible");
    // Far above what is seen (a few milliseconds), far below what would stall a node.
    assert!(slowest.as_millis() < 500, "{slowest:?}");
}

/// One of a list, as the draw falls.
fn one_of<T: Copy>(draw: &mut Draw, list: &[T]) -> T {
    list[usize::try_from(draw.below(list.len() as u64)).unwrap()]
}

/// A line with a network of six layers of the full space.
fn line(draw: &mut Draw) -> String {
    let layers = (0..6).map(|_| ConvLayer {
        kernel: [one_of(draw, &[1, 3, 5, 7, 9]), one_of(draw, &[1, 3, 5, 7, 9])],
        filters: one_of(draw, &[4, 8, 12, 24, 36, 64, 128]),
        stride: [draw.byte(1, 5), draw.byte(1, 5)],
        pool: draw.byte(1, 2),
        act: FixedPoint::new(draw.byte(1, 3), draw.byte(0, 6)),
        weight: FixedPoint::new(draw.byte(1, 4), draw.byte(0, 6)),
    });
    serde_json::to_string(&Architecture { layers: layers.collect() }).unwrap()
}

#[test]
fn lines_by_the_thousand() {
    let mut draw = Draw(11);
    let lines: Vec<String> = (0..5_000).map(|_| line(&mut draw)).collect();
    let models = [Estimator::Mapping(CostModel::Naqs), Estimator::Mapping(CostModel::Corrected), Estimator::Finn];
    for estimator in models {
        for bounds in [Bounds { lut: 100_000, throughput: 1_000 }, Bounds { lut: 10_000, throughput: 1_000 }] {
            let answer = |line: &String| answer_line(estimator, bounds, 1, line).unwrap().feasible;
            let feasible = lines.iter().filter(|line| answer(line)).count();
            // Short batches, so that some are never interrupted: the rate of a core of its own.
            let batches = lines.chunks(100).map(|batch| least_time(3, || batch.iter().filter(|l| answer(l)).count()));
            let rate = lines.len() as f64 / batches.sum::<Duration>().as_secs_f64();
            eprintln!("{estimator:?} at {} LUT: {rate:.0} lines a second, {feasible} feasible", bounds.lut);
            assert!(feasible > 500 && feasible < lines.len(), "{feasible}: the sample does not tell");
            // Ten thousand are promised; slower processors than those seen must not fail the test.
            assert!(rate > 1_000.0, "{estimator:?}: {rate:.0} lines a second");
        }
    }
}
