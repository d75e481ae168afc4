//! Request-response protocols: names, limits, and length-prefixed bytes on the wire.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

use crate::config::NetworkConfig;

/// Which protocol a request belongs to. Each has its own streams and limits, so that one cannot starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Blocks and interval messages between nodes.
    Sync,
    /// Between a pool's manager and its miners.
    Pool,
    /// Verified chunks of blobs.
    Blob,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Pool, Self::Blob];

    /// Its name and version on the network, without the chain's prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync/1",
            Self::Pool => "pool/1",
            Self::Blob => "blob/1",
        }
    }
}

/// Bounds of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolLimits {
    /// Bytes of a request at most.
    pub request_bytes: usize,
    /// Bytes of a response at most.
    pub response_bytes: usize,
    /// A request without an answer fails after this.
    pub timeout: Duration,
    /// Requests of both directions under way on one connection at most; more are refused.
    pub streams: usize,
    /// Requests a second that are taken from one peer in the long run; more are refused.
    pub requests_per_s: u32,
    /// Requests that are taken from one peer at once.
    pub requests_burst: u32,
}

impl Default for ProtocolLimits {
    fn default() -> Self {
        Self {
            request_bytes: 64 << 10,
            response_bytes: 4 << 20,
            timeout: Duration::from_secs(20),
            streams: 32,
            requests_per_s: 50,
            requests_burst: 250,
        }
    }
}

/// Bytes behind a big-endian u32 that says how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BytesCodec {
    request_bytes: usize,
    response_bytes: usize,
}

pub(crate) type Behaviour = request_response::Behaviour<BytesCodec>;
pub(crate) type Event = request_response::Event<RequestBytes, Vec<u8>>;

/// A request as it came in, or was to go out. The library reports no failure to read one, so that a request which breaks
/// the limit comes up as a value.
#[derive(Debug)]
pub(crate) enum RequestBytes {
    /// Within the limit.
    Good(Vec<u8>),
    /// Refused while it was read, and why.
    Bad(String),
}

pub(crate) fn behaviour(tag: &str, protocol: Protocol, config: &NetworkConfig) -> Result<Behaviour, String> {
    let limits = config.limits_of(protocol);
    let support = match config.serves.contains(&protocol) {
        true => request_response::ProtocolSupport::Full,
        false => request_response::ProtocolSupport::Outbound,
    };
    let name = StreamProtocol::try_from_owned(format!("/podl/{tag}/{}", protocol.name())).map_err(|e| e.to_string())?;
    let codec = BytesCodec { request_bytes: limits.request_bytes, response_bytes: limits.response_bytes };
    let settings = request_response::Config::default()
        .with_request_timeout(limits.timeout)
        .with_max_concurrent_streams(limits.streams);
    Ok(Behaviour::with_codec(codec, [(name, support)], settings))
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let mut prefix = [0u8; 4];
    io.read_exact(&mut prefix).await?;
    let claimed = u64::from(u32::from_be_bytes(prefix));
    if claimed > limit_bytes as u64 {
        let text = format!("a message of {claimed} bytes, at most {limit_bytes} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // The buffer grows with what really arrives: a claim alone costs nothing.
    let mut bytes = Vec::new();
    io.take(claimed).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 == claimed { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8], limit_bytes: usize) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limit_bytes);
    let Some(length) = length else {
        let text = format!("own message of {} bytes, at most {limit_bytes} are allowed", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

impl request_response::Codec for BytesCodec {
    type Protocol = StreamProtocol;
    type Request = RequestBytes;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<RequestBytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io, self.request_bytes).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(RequestBytes::Bad(error.to_string())),
            read => read.map(RequestBytes::Good),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.response_bytes).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: RequestBytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            RequestBytes::Good(bytes) => write(io, &bytes, self.request_bytes).await,
            RequestBytes::Bad(reason) => Err(io::Error::new(io::ErrorKind::InvalidInput, reason)),
        }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response, self.response_bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    #[test]
    fn a_message_survives_and_a_large_one_is_refused_before_it_is_read() {
        let mut wire = Cursor::new(Vec::new());
        block_on(write(&mut wire, b"hello", 5)).unwrap();
        assert_eq!(block_on(write(&mut wire, b"hello!", 5)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let bytes = wire.into_inner();
        assert_eq!(block_on(read(&mut bytes.as_slice(), 5)).unwrap(), b"hello");
        assert_eq!(block_on(read(&mut bytes.as_slice(), 4)).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(block_on(read(&mut &bytes[..7], 5)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let claim = u32::MAX.to_be_bytes();
        let got = block_on(read(&mut claim.as_slice(), u32::MAX as usize));
        assert_eq!(got.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
