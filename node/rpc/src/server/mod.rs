//! The HTTP server: JSON-RPC on `/` (public) and `/admin` (token, same machine only), the page of the pool on `/pool`,
//! and `/health`, `/ready`, `/metrics`. Every resource that a caller can use up has a limit ([`RpcLimits`]).

mod guard;
mod listener;
mod page;
mod places;
mod plain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jsonrpsee::Methods;
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{BatchRequestConfig, ConnectionState, ServerConfig, StopHandle, http, stop_channel};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::{AdminApiServer, NodeApiServer, Token};
use guard::Guard;
use listener::{LimitedListener, Peer};
use plain::Question;

/// How long open connections may take to finish when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Limits of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcLimits {
    /// Most bytes of a request. A transaction of the largest size fits, twice over for hexadecimal.
    pub request_bytes: u32,
    /// Most bytes of a response. A whole block fits, twice over for hexadecimal.
    pub response_bytes: u32,
    /// Most calls in one batch. A batch counts as one request for the rate, so it is kept small.
    pub batch_calls: u32,
    /// Most open connections; more wait.
    pub connections: usize,
    /// Most open connections of one address on another machine; more are closed at once.
    pub connections_per_address: usize,
    /// Most requests under way; more are refused with status 503.
    pub requests_under_way: usize,
    /// Most requests of one address on another machine that are read or under way; more are refused with status 503, so
    /// that one caller's long waits leave room for others.
    pub under_way_per_address: usize,
    /// Requests a second of one address in the long run; more are refused with status 429.
    pub requests_per_second: u32,
    /// Requests of one address at once, after a pause.
    pub burst: u32,
    /// A connection that is silent for so long is closed. Longer than the longest wait of `chain_wait`.
    pub idle: Duration,
    /// A request must have come in whole after this.
    pub body: Duration,
    /// A call that takes longer is given up.
    pub call: Duration,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            request_bytes: 1 << 20,
            response_bytes: 8 << 20,
            batch_calls: 16,
            connections: 128,
            connections_per_address: 16,
            requests_under_way: 64,
            under_way_per_address: 16,
            requests_per_second: 200,
            burst: 400,
            idle: Duration::from_secs(90),
            body: Duration::from_secs(20),
            call: Duration::from_secs(60),
        }
    }
}

/// What `/health` and `/ready` ask the node.
pub trait Probe: Send + Sync + 'static {
    /// Whether the node works at all; if not, why. A service manager restarts a node that does not.
    ///
    /// # Errors
    /// What is wrong, in one line.
    fn health(&self) -> Result<(), String>;

    /// Whether the node is caught up and can be relied on; if not, why.
    ///
    /// # Errors
    /// What is missing, in one line.
    fn ready(&self) -> Result<(), String>;
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("{what} cannot listen on {addr}: {source}; is another node running there? Choose another address")]
    Bind {
        /// RPC or metrics.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running server. Dropping it leaves it running; [`Server::stop`] ends it.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// The address that it listens on, with the port that the system chose if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests and waits shortly for those under way.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(STOP_LIMIT, self.task).await.is_err() {
            // A long poll may be under way; its caller sees the connection close.
            abort.abort();
        }
    }
}

/// Everything that handlers share.
struct Shared {
    limits: RpcLimits,
    public: Methods,
    admin: Option<(Methods, Token)>,
    probe: Arc<dyn Probe>,
    registry: Arc<Registry>,
    guard: Guard,
    /// Requests whose bodies come in. A body may come slowly, which must not take the place of a call.
    reading: Arc<Semaphore>,
    under_way: Arc<Semaphore>,
    health: Question<()>,
    ready: Question<()>,
    metrics: Question<String>,
    next_id: AtomicU32,
    stop: StopHandle,
}

/// Starts the RPC server. `admin` is left out for nodes that nobody administers over RPC.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn serve<N: NodeApiServer, A: AdminApiServer>(
    addr: SocketAddr,
    limits: RpcLimits,
    node: N,
    admin: Option<(A, Token)>,
    probe: Arc<dyn Probe>,
    registry: Arc<Registry>,
) -> Result<Server, ServeError> {
    let listener = bind("RPC", addr).await?;
    let public = Methods::from(node.into_rpc());
    let admin = admin.map(|(api, token)| (Methods::from(api.into_rpc()), token));
    let router = page::routes().route("/", post(public_call)).route("/admin", post(admin_call));
    Ok(run(listener, router, limits, public, admin, probe, registry))
}

/// Starts a server with `/health`, `/ready` and `/metrics` only, for a monitoring system that must not reach RPC.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn serve_metrics(
    addr: SocketAddr,
    limits: RpcLimits,
    probe: Arc<dyn Probe>,
    registry: Arc<Registry>,
) -> Result<Server, ServeError> {
    let listener = bind("metrics", addr).await?;
    Ok(run(listener, Router::new(), limits, Methods::new(), None, probe, registry))
}

async fn bind(what: &'static str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let refuse = |source| ServeError::Bind { what, addr, source };
    let listener = TcpListener::bind(addr).await.map_err(refuse)?;
    let addr = listener.local_addr().map_err(refuse)?;
    Ok((listener, addr))
}

fn run(
    (listener, addr): (TcpListener, SocketAddr),
    router: Router<Arc<Shared>>,
    limits: RpcLimits,
    public: Methods,
    admin: Option<(Methods, Token)>,
    probe: Arc<dyn Probe>,
    registry: Arc<Registry>,
) -> Server {
    let (stop_handle, server_handle) = stop_channel();
    let guard = Guard::new(addr.ip().is_loopback(), &limits);
    let reading = Arc::new(Semaphore::new(limits.connections));
    let under_way = Arc::new(Semaphore::new(limits.requests_under_way));
    let listener = LimitedListener::new(listener, &limits);
    let shared = Arc::new(Shared {
        limits,
        public,
        admin,
        probe,
        registry,
        guard,
        reading,
        under_way,
        health: Question::new(),
        ready: Question::new(),
        metrics: Question::new(),
        next_id: AtomicU32::new(0),
        stop: stop_handle,
    });
    let router = router
        .route("/health", get(plain::health))
        .route("/ready", get(plain::ready))
        .route("/metrics", get(plain::metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::check))
        .with_state(shared);
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<Peer>();
        let ended = axum::serve(listener, service).with_graceful_shutdown(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
            let _ = server_handle.stop();
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the RPC server ended");
        }
    });
    Server { addr, stop, task }
}

async fn public_call(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    call(&shared, shared.public.clone(), request).await
}

async fn admin_call(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some((methods, token)) = &shared.admin else {
        return (StatusCode::NOT_FOUND, "this node has no admin methods\n").into_response();
    };
    if !guard::is_local(&request) {
        return (StatusCode::FORBIDDEN, "admin methods are for callers on the same machine\n").into_response();
    }
    let header = request.headers().get(axum::http::header::AUTHORIZATION);
    if !header.is_some_and(|value| token.matches(value.as_bytes())) {
        let body = "admin methods need the header 'Authorization: Bearer TOKEN'; the token is in the file rpc-token of \
                    the node's data folder\n";
        return (StatusCode::UNAUTHORIZED, body).into_response();
    }
    call(&shared, methods.clone(), request).await
}

/// Passes a request to jsonrpsee within the limits.
async fn call(shared: &Shared, methods: Methods, request: Request) -> Response {
    let request = match whole(shared, request).await {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    let Ok(permit) = Arc::clone(&shared.under_way).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many requests under way; try again\n").into_response();
    };
    let limits = &shared.limits;
    let config = ServerConfig::builder()
        .max_request_body_size(limits.request_bytes)
        .max_response_body_size(limits.response_bytes)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch_calls))
        .http_only()
        .build();
    let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
    let state = ConnectionState::new(shared.stop.clone(), id, permit);
    let answer = http::call_with_service_builder(request, config, state, methods, RpcServiceBuilder::new());
    match tokio::time::timeout(limits.call, answer).await {
        Ok(response) => response.map(Body::new),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "the node did not answer in time\n").into_response(),
    }
}

/// The request with all of its body, or why it is refused.
async fn whole(shared: &Shared, request: Request) -> Result<Request, Response> {
    let limits = &shared.limits;
    let Ok(_permit) = shared.reading.try_acquire() else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many requests come in; try again\n").into_response());
    };
    let (head, body) = request.into_parts();
    let read = axum::body::to_bytes(body, limits.request_bytes as usize);
    match tokio::time::timeout(limits.body, read).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(head, Body::from(bytes))),
        // Or the connection broke, and nobody reads this.
        Ok(Err(_)) => {
            let why = format!("a request has at most {} bytes\n", limits.request_bytes);
            Err((StatusCode::PAYLOAD_TOO_LARGE, why).into_response())
        }
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the request did not come in in time\n").into_response()),
    }
}
