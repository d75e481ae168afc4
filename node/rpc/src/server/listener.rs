//! A TCP listener that holds a bounded number of connections and closes those that fall silent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::RpcLimits;
use super::places::{Place, Places};

/// Who called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, LimitedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, LimitedListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

pub(super) struct LimitedListener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    places: Places,
    idle: Duration,
}

impl LimitedListener {
    pub(super) fn new(listener: TcpListener, limits: &RpcLimits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections));
        Self { listener, permits, places: Places::new(limits.connections_per_address), idle: limits.idle }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        // Above the limit callers wait in the system's backlog, which is bounded too.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, addr, place) = loop {
            // axum's own accept knows which errors pass and which need a pause.
            let (stream, addr) = Listener::accept(&mut self.listener).await;
            if let Some(place) = self.places.take(addr.ip()) {
                break (stream, addr, place);
            }
        };
        let idle = Box::pin(tokio::time::sleep(self.idle));
        (LimitedStream { stream, idle, limit: self.idle, _permit: permit, _place: place }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that errs once it has been silent for too long.
pub(super) struct LimitedStream {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    limit: Duration,
    _permit: Option<OwnedSemaphorePermit>,
    _place: Place,
}

impl LimitedStream {
    fn moved(&mut self) {
        let deadline = Instant::now() + self.limit;
        self.idle.as_mut().reset(deadline);
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.moved();
            return Poll::Ready(result);
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_write(cx, buf) {
            self.moved();
            return Poll::Ready(result);
        }
        // A caller that does not take its answer blocks the connection as much as a silent one.
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
