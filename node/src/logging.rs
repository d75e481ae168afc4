//! Logs: to standard error, for people or (`--log-format json`) for programs.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// Libraries that say more at `info` than a person wants to read.
const QUIET: &str = "libp2p=warn,jsonrpsee=warn,hyper=warn,netlink=warn,yamux=warn,quinn=warn,multistream_select=warn";

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of words.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("expected text or json, got {text:?}")),
        }
    }
}

/// Whether a filter such as `info` or `warn,podl_network=debug` can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::builder().parse(text).map(|_| ()).map_err(|e| format!("not a log filter: {e}"))
}

/// Starts logging for the rest of the process. A second call changes nothing, which tests rely on.
pub fn start(filter: &str, format: LogFormat) {
    // What the user names comes last and so wins over the quiet list.
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},{filter}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}
