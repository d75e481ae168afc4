//! Talking to a running node.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use jsonrpsee::core::ClientError;
use podl_rpc::client::{CallError, NodeClient};
use podl_rpc::{TOKEN_FILE, Token};

use crate::paths;

/// Which node to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct RemoteArgs {
    /// Address of the node's RPC.
    #[arg(long, value_name = "ADDR", env = "PODL_RPC", default_value = "127.0.0.1:9744", hide_env = true)]
    pub(super) rpc: String,
}

impl RemoteArgs {
    /// A client for the public methods.
    pub(super) fn connect(&self) -> anyhow::Result<NodeClient> {
        Ok(NodeClient::new(&self.rpc, None)?)
    }
}

/// Which node to give orders, and the token that shows that one may.
#[derive(Clone, Debug, Args)]
pub(super) struct OperatorArgs {
    #[command(flatten)]
    pub(super) remote: RemoteArgs,

    /// Data folder of the node, for its RPC token [default: that of the dev chain].
    #[arg(long, value_name = "DIR", env = "PODL_DATA_DIR", hide_env = true)]
    data_dir: Option<PathBuf>,

    /// File of the node's RPC token [default: rpc-token in the data folder].
    #[arg(long, value_name = "FILE", env = "PODL_RPC_TOKEN_FILE", hide_env = true)]
    token_file: Option<PathBuf>,
}

impl OperatorArgs {
    /// A client for all methods.
    pub(super) fn connect(&self) -> anyhow::Result<NodeClient> {
        let folder = || self.data_dir.clone().unwrap_or_else(|| paths::default_data_dir("dev"));
        let path = self.token_file.clone().unwrap_or_else(|| folder().join(TOKEN_FILE));
        let token = Token::read(&path).context("name the node's data folder with --data-dir")?;
        Ok(NodeClient::new(&self.remote.rpc, Some(&token))?)
    }
}

/// Runs the asynchronous part of a command.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the system gives no resources for network calls")?.block_on(work)
}

/// Turns a client's errors into words.
pub(super) trait Explain<T> {
    /// The value, or what went wrong.
    fn explain(self, client: &NodeClient) -> Result<T, CallError>;
}

impl<T> Explain<T> for Result<T, ClientError> {
    fn explain(self, client: &NodeClient) -> Result<T, CallError> {
        self.map_err(|e| client.explain(e))
    }
}

/// An absolute path, for a node that works in another folder.
pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}
