//! One file over HTTP, from the byte where an earlier attempt stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Proxy};

use super::{FetchError, OnProgress, Remote};

/// How long a server may take to accept a connection, and to begin an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one answer may last. What came by then is kept, and the next attempt goes on behind it.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// Attempts in a row that bring no new byte.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes read and written at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// The client.
pub struct Http {
    agent: Agent,
    pub(super) attempts: u32,
    pub(super) pause: Duration,
}

impl Default for Http {
    /// A client with the system's certificates and the proxy that the environment names (`https_proxy`, `http_proxy`).
    fn default() -> Self {
        Self { agent: agent(Proxy::try_from_env()), attempts: ATTEMPTS, pause: PAUSE }
    }
}

fn agent(proxy: Option<Proxy>) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .user_agent(concat!("podl/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .timeout_connect(Some(ANSWER_TIMEOUT))
        .timeout_recv_response(Some(ANSWER_TIMEOUT))
        .timeout_recv_body(Some(BODY_TIMEOUT));
    config.build().into()
}

impl Http {
    /// A client that asks no proxy and does not wait between attempts.
    #[cfg(test)]
    pub(super) fn direct() -> Self {
        Self { agent: agent(None), attempts: 3, pause: Duration::ZERO }
    }

    /// One attempt to bring what is missing of a file behind its first `have` bytes, which lie in `part`.
    pub(super) fn transfer(
        &self,
        remote: &Remote,
        part: &Path,
        have: u64,
        progress: OnProgress<'_>,
    ) -> Result<(), FetchError> {
        let mut request = self.agent.get(&remote.url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| network(remote, error.to_string()))?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // The server's file is shorter than what lies here: the next attempt begins anew.
            open_at(part, 0).map_err(|error| FetchError::disk(part, error))?;
        }
        let start = start(remote, &response, have)?;
        let mut file = open_at(part, start).map_err(|error| FetchError::disk(part, error))?;
        // One byte more than is missing shows a server that sends too much.
        let mut body = response.into_body().into_reader().take(remote.bytes - start + 1);
        let (mut done, mut chunk) = (start, vec![0; CHUNK_BYTES]);
        loop {
            progress(remote.name, done, remote.bytes);
            let read = body.read(&mut chunk).map_err(|error| network(remote, error.to_string()))?;
            if done + read as u64 > remote.bytes {
                return Err(wrong(remote, "its size is", format!("more than {}", remote.bytes)));
            }
            if read == 0 {
                break;
            }
            file.write_all(&chunk[..read]).map_err(|error| FetchError::disk(part, error))?;
            done += read as u64;
        }
        file.sync_all().map_err(|error| FetchError::disk(part, error))?;
        if done < remote.bytes {
            return Err(network(remote, format!("it ended after {done} of {} bytes", remote.bytes)));
        }
        Ok(())
    }
}

fn network(remote: &Remote, reason: String) -> FetchError {
    FetchError::Network { url: remote.url.clone(), reason }
}

fn wrong(remote: &Remote, what: &'static str, got: String) -> FetchError {
    FetchError::WrongAnswer { url: remote.url.clone(), what, got, expected: remote.bytes.to_string() }
}

/// The byte that an answer begins with: `have`, or 0 from a server that knows no ranges.
fn start(remote: &Remote, response: &Response<Body>, have: u64) -> Result<u64, FetchError> {
    let start = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let range = range.unwrap_or_default();
            let expected = format!("bytes {have}-{}/", remote.bytes - 1);
            let total = range.strip_prefix(&expected);
            if !total.is_some_and(|total| total == "*" || total == remote.bytes.to_string()) {
                let (url, what, got) = (remote.url.clone(), "its range is", format!("{range:?}"));
                return Err(FetchError::WrongAnswer {
                    url,
                    what,
                    got,
                    expected: format!("{expected}{}", remote.bytes),
                });
            }
            have
        }
        status => return Err(FetchError::Status { url: remote.url.clone(), status: status.as_u16() }),
    };
    match response.body().content_length() {
        Some(length) if length != remote.bytes - start => {
            Err(wrong(remote, "its size is", length.saturating_add(start).to_string()))
        }
        _ => Ok(start),
    }
}

/// Opens a file to write behind its first `start` bytes; whatever lies there already goes.
fn open_at(path: &Path, start: u64) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_len(start)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}
