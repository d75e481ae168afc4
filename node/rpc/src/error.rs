//! Why a call was refused: a kind that programs can tell apart, and words for people.

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE};

/// What kind of refusal it is. Each has a fixed JSON-RPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// A parameter is out of its range or malformed; the caller is to blame.
    InvalidParams,
    /// There is no such block, task, transaction or blob here.
    NotFound,
    /// The node cannot do it now: it is syncing, or stopping. Trying again later helps.
    NotReady,
    /// The chain's rules or the mempool refuse it.
    Rejected,
    /// This node does not run the part that is asked (pool manager, wallet).
    Unavailable,
    /// The node's own fault: disk, or a bug.
    Internal,
}

impl ApiErrorKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::InvalidParams, Self::NotFound, Self::NotReady, Self::Rejected, Self::Unavailable, Self::Internal];

    /// Its JSON-RPC code.
    pub const fn code(self) -> i32 {
        match self {
            Self::InvalidParams => INVALID_PARAMS_CODE,
            Self::NotFound => -32001,
            Self::NotReady => -32002,
            Self::Rejected => -32003,
            Self::Unavailable => -32004,
            Self::Internal => INTERNAL_ERROR_CODE,
        }
    }
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub kind: ApiErrorKind,
    /// One line for people: what is wrong and what to do.
    pub message: String,
}

impl ApiError {
    /// A refusal of that kind.
    pub fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// [`ApiErrorKind::InvalidParams`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ApiErrorKind::InvalidParams, message)
    }
}

impl From<ApiError> for ErrorObjectOwned {
    fn from(error: ApiError) -> Self {
        Self::owned(error.kind.code(), error.message, None::<()>)
    }
}
