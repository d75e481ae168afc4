//! Plain task types that rules need: search space, architecture, network shapes, bounds, and the port through which
//! rules ask for a model to be checked and scored.
//!
//! Everything here is integers and lists with one canonical postcard form; nothing reads files or trains. The crate
//! `podl-nas` implements [`WorkVerifier`].

mod architecture;
mod network;
mod port;
mod presets;
mod setting;
mod space;
mod task;

pub use architecture::{Architecture, ConvLayer, DenseConfig, FixedPoint, InputShape};
pub use network::{ConvShape, DenseShape, INPUT_BITS, Network, NetworkError, Span};
pub use port::{ModelFacts, WorkError, WorkVerifier};
pub use presets::PRESET_NAMES;
pub use setting::Setting;
pub use space::{Space, SpaceError};
pub use task::{Bounds, Workload, WorkloadError, WorkloadVersions};
