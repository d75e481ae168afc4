//! The client that commands use: connects, and turns what went wrong into words.

use std::time::Duration;

use jsonrpsee::core::ClientError;
use jsonrpsee::http_client::{HeaderMap, HeaderValue, HttpClient, HttpClientBuilder};
use podl_consensus::hash::blob_root;
use podl_consensus::types::BlobRoot;

use crate::types::CHUNK_BYTES;
use crate::{NodeApiClient, Token};

/// Longer than the longest wait of `chain_wait`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
/// Publishing reads, cuts and seals a data set before it answers.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(300);
/// As large as the server's largest answer.
const RESPONSE_BYTES: u32 = 8 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The node's address cannot be used.
    #[error("{url:?} is not the address of a node's RPC: {reason}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers.
    #[error("no node answers at {url}: {reason}; start one with `podl node run`, or name its address with --rpc")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The node refuses.
    #[error("the node refuses: {0}")]
    Refused(String),
    /// The node answers something that this program does not understand.
    #[error("the node's answer is not understood ({0}); do both run the same version?")]
    Answer(String),
    /// A blob's bytes do not hash to its name.
    #[error("the node served other bytes than {root}: they hash to {got}")]
    Blob {
        /// What was asked for.
        root: BlobRoot,
        /// What came.
        got: BlobRoot,
    },
    /// A blob is larger than the caller can use.
    #[error("the blob has {got} bytes, at most {limit} were expected")]
    BlobTooLarge {
        /// What the node says.
        got: u64,
        /// What the caller allows.
        limit: u64,
    },
}

/// A connection to one node.
#[derive(Clone, Debug)]
pub struct NodeClient {
    url: String,
    public: HttpClient,
    admin: Option<HttpClient>,
}

impl NodeClient {
    /// A client of the node at `address` (`HOST:PORT` or `http://HOST:PORT`). With a token it can call admin methods
    /// too. Nothing is sent yet.
    ///
    /// # Errors
    /// [`CallError::Address`].
    pub fn new(address: &str, token: Option<&Token>) -> Result<Self, CallError> {
        let url = if address.contains("://") { address.into() } else { format!("http://{address}") };
        let url = url.trim_end_matches('/').to_owned();
        let refuse = |reason: String| CallError::Address { url: address.into(), reason };
        let public = build(&url, HeaderMap::new(), REQUEST_TIMEOUT).map_err(|e| refuse(e.to_string()))?;
        let admin = match token {
            None => None,
            Some(token) => {
                let mut headers = HeaderMap::new();
                let mut value = HeaderValue::from_str(&token.header()).map_err(|e| refuse(e.to_string()))?;
                value.set_sensitive(true);
                headers.insert("authorization", value);
                let client = build(&format!("{url}/admin"), headers, ADMIN_TIMEOUT);
                Some(client.map_err(|e| refuse(e.to_string()))?)
            }
        };
        Ok(Self { url, public, admin })
    }

    /// For the methods of [`NodeApiClient`].
    pub fn public(&self) -> &HttpClient {
        &self.public
    }

    /// For the methods of [`crate::AdminApiClient`].
    ///
    /// # Errors
    /// [`CallError::Refused`] when the client has no token.
    pub fn admin(&self) -> Result<&HttpClient, CallError> {
        self.admin.as_ref().ok_or_else(|| CallError::Refused("this needs the node's admin token".into()))
    }

    /// Says what went wrong with a call.
    pub fn explain(&self, error: ClientError) -> CallError {
        let unreachable = |reason: String| CallError::Unreachable { url: self.url.clone(), reason };
        match error {
            ClientError::Call(object) => CallError::Refused(object.message().to_owned()),
            ClientError::Transport(source) => unreachable(innermost(source.as_ref())),
            ClientError::RequestTimeout => unreachable("no answer in time".into()),
            other => CallError::Answer(other.to_string()),
        }
    }

    /// Fetches a whole blob piece by piece, checks that it is the one named, and reports progress in bytes.
    ///
    /// # Errors
    /// [`CallError`]; a blob of more than `limit_bytes` is refused before it is fetched.
    pub async fn blob(
        &self,
        root: BlobRoot,
        limit_bytes: u64,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Vec<u8>, CallError> {
        let mut bytes = Vec::new();
        loop {
            let offset = bytes.len() as u64;
            let piece = self.public.blob_get(root, offset, CHUNK_BYTES).await.map_err(|e| self.explain(e))?;
            if piece.total_bytes > limit_bytes {
                return Err(CallError::BlobTooLarge { got: piece.total_bytes, limit: limit_bytes });
            }
            let is_progress = piece.offset == offset && (!piece.bytes.0.is_empty() || piece.total_bytes == offset);
            if !is_progress || offset + piece.bytes.0.len() as u64 > piece.total_bytes {
                return Err(CallError::Answer("a piece of a blob does not fit".into()));
            }
            bytes.extend_from_slice(&piece.bytes.0);
            progress(bytes.len() as u64, piece.total_bytes);
            if bytes.len() as u64 == piece.total_bytes {
                break;
            }
        }
        let got = blob_root(&bytes);
        if got == root { Ok(bytes) } else { Err(CallError::Blob { root, got }) }
    }
}

fn build(url: &str, headers: HeaderMap, timeout: Duration) -> Result<HttpClient, ClientError> {
    HttpClientBuilder::default()
        .set_headers(headers)
        .request_timeout(timeout)
        .max_response_size(RESPONSE_BYTES)
        .build(url)
}

/// The cause at the end of an error's chain, which is the one that says something ("Connection refused").
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
