//! JSON-RPC of a podl node: what can be asked ([`NodeApi`]), what only its operator may ([`AdminApi`]), the server with
//! its limits, and the client that the command line uses.
//!
//! The node implements [`NodeApiServer`] and [`AdminApiServer`]; nothing here knows how. The written reference is
//! docs/rpc.md, which a test renders from the method list and compares.

#![forbid(unsafe_code)]

pub mod client;
mod error;
mod methods;
pub mod server;
mod token;
pub mod types;

pub use error::{ApiError, ApiErrorKind};
pub use methods::{AdminApiClient, AdminApiServer, NodeApiClient, NodeApiServer};
pub use token::{TOKEN_FILE, Token, TokenError};
