//! Parameters of a podl chain: specs, genesis, primitive types. Plain data, no async, no IO beyond reading a spec file.

#![forbid(unsafe_code)]

mod caps;
mod check;
mod primitives;
mod spec;

pub use caps::Caps;
pub use check::SpecError;
pub use primitives::{ADDRESS_PREFIX, AccountId, Amount, Hash32, PrimitiveError, UNITS_PER_PODL};
pub use spec::{
    ChainSpec, Filler, Genesis, GenesisAccount, Limits, Money, NetworkHints, Phases, Seats, Tasks, Versions,
};
