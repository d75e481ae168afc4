//! Prometheus metrics, read from the core when they are scraped. No label is taken from the network.

use std::fmt;
use std::time::Duration;

use podl_consensus::state::Checkpoint;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::api::Api;
use super::core::Core;
use super::input::{CoreHandle, Input};

/// How long a scrape waits for the core.
const WAIT: Duration = Duration::from_secs(2);

struct CoreCollector(CoreHandle);

impl fmt::Debug for CoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreCollector")
    }
}

/// A metric: its name, what it says, and its value.
pub type Gauge = (&'static str, &'static str, Value);

/// The value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// A part of a whole, from 0 to 1.
    Ratio(f64),
}

/// What is told of a node.
struct Reading {
    head: Checkpoint,
    finalised: Checkpoint,
    network_height: u64,
    is_syncing: bool,
    waiting: usize,
    supply: u64,
    burned: u64,
    seats: usize,
}

fn read(core: &Core) -> Option<Reading> {
    let meta = core.head_meta()?;
    Some(Reading {
        head: core.head(),
        finalised: core.finalised(),
        network_height: core.network_height(),
        is_syncing: core.is_syncing(),
        waiting: core.waiting_transactions(),
        supply: meta.supply.0,
        burned: meta.burned.0,
        seats: meta.seats.current.len(),
    })
}

impl Collector for CoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (answer, answered) = std::sync::mpsc::channel();
        let query = Box::new(move |core: &mut Core| {
            let _ = answer.send(read(core));
        });
        if !self.0.offer(Input::Query(query)) {
            return Ok(());
        }
        // A busy or stopped core shows as missing series, which is what alerts are made on.
        let Ok(Some(reading)) = answered.recv_timeout(WAIT) else { return Ok(()) };
        let gauges: [(&'static str, &'static str, u64); 8] = [
            ("podl_head_height", "Height of the head", reading.head.height),
            ("podl_final_height", "Height of the last final block", reading.finalised.height),
            ("podl_network_height", "Highest height that a peer told of", reading.network_height),
            ("podl_syncing", "1 while the node is catching up", u64::from(reading.is_syncing)),
            ("podl_mempool_transactions", "Transactions that wait", reading.waiting as u64),
            ("podl_supply_units", "All money, in the smallest unit", reading.supply),
            ("podl_burned_units", "All money ever burned, in the smallest unit", reading.burned),
            ("podl_seats", "Seats that vote", reading.seats as u64),
        ];
        let gauges = gauges.map(|(name, help, count)| (name, help, Value::Count(count)));
        encode(&mut encoder, gauges)
    }
}

/// The pool, where this node manages one; it starts after the servers.
struct PoolCollector(Api);

impl fmt::Debug for PoolCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolCollector")
    }
}

impl Collector for PoolCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.0.pool.get().map_or(Ok(()), |pool| encode(&mut encoder, pool.gauges()))
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, gauges: impl IntoIterator<Item = Gauge>) -> Result<(), fmt::Error> {
    for (name, help, value) in gauges {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        match value {
            Value::Count(count) => ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(metric)?,
            Value::Ratio(ratio) => ConstGauge::new(ratio).encode(metric)?,
        }
    }
    Ok(())
}

/// The registry of a node.
pub(super) fn registry(api: &Api) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(CoreCollector(api.0.core.clone())));
    registry.register_collector(Box::new(PoolCollector(api.clone())));
    registry
}
