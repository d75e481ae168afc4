//! Second stage: the header against its parent. That the parent is known is for the chain to see.

use podl_chain_spec::ChainSpec;

use super::HeaderError;
use crate::interval_context::IntervalContext;
use crate::types::Header;

/// Checks height, time, task and round.
///
/// # Errors
/// [`HeaderError`].
pub fn check(spec: &ChainSpec, interval: &IntervalContext, header: &Header) -> Result<(), HeaderError> {
    height(interval, header)?;
    time(spec, interval, header)?;
    task(interval, header)?;
    round(interval, header)
}

fn height(interval: &IntervalContext, header: &Header) -> Result<(), HeaderError> {
    let (got, expected) = (header.height, interval.height);
    if got == expected { Ok(()) } else { Err(HeaderError::Height { got, expected }) }
}

/// Every kind takes at least init and train time, so that nobody makes heights pass faster than intervals.
fn time(spec: &ChainSpec, interval: &IntervalContext, header: &Header) -> Result<(), HeaderError> {
    let least = interval.parent_time_ms.saturating_add(spec.min_interval_ms());
    let got = header.time_ms;
    if got >= least { Ok(()) } else { Err(HeaderError::Time { got, least }) }
}

fn task(interval: &IntervalContext, header: &Header) -> Result<(), HeaderError> {
    let (got, expected) = (header.task, interval.task);
    if got == expected { Ok(()) } else { Err(HeaderError::Task { got, expected }) }
}

fn round(interval: &IntervalContext, header: &Header) -> Result<(), HeaderError> {
    let (got, expected) = (header.round, interval.round);
    if got == expected { Ok(()) } else { Err(HeaderError::Round { got, expected }) }
}
