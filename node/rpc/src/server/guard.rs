//! Who may ask, and how often.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::listener::Peer;
use super::places::{Places, household};
use super::{RpcLimits, Shared};

/// Most addresses whose rate is tracked apart.
const TRACKED_ADDRESSES: usize = 4096;

/// Tokens of one address.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Host check and rate limit.
pub(super) struct Guard {
    /// Bound to a loopback address: then a foreign host name means that a web page was made to resolve here.
    is_loopback: bool,
    per_second: f64,
    burst: f64,
    buckets: Mutex<BTreeMap<IpAddr, Bucket>>,
    under_way: Places,
}

impl Guard {
    pub(super) fn new(is_loopback: bool, limits: &RpcLimits) -> Self {
        Self {
            is_loopback,
            per_second: limits.requests_per_second.into(),
            burst: limits.burst.into(),
            buckets: Mutex::default(),
            under_way: Places::new(limits.under_way_per_address),
        }
    }

    /// Whether this address may ask now.
    fn admits(&self, address: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= TRACKED_ADDRESSES && !buckets.contains_key(&address) {
            let (rate, burst) = (self.per_second, self.burst);
            buckets.retain(|_, b| b.tokens + now.saturating_duration_since(b.at).as_secs_f64() * rate < burst);
            if buckets.len() >= TRACKED_ADDRESSES {
                return false;
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: self.burst, at: now });
        let earned = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + earned).min(self.burst);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.0)
}

/// Whether the caller is on this machine.
pub(super) fn is_local(request: &Request) -> bool {
    peer(request).is_some_and(|addr| addr.ip().to_canonical().is_loopback())
}

/// Whether a `Host` header names this machine.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Middleware in front of every route.
pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    if shared.guard.is_loopback && !host.is_some_and(is_loopback_host) {
        return (StatusCode::FORBIDDEN, "the Host header must name this machine\n").into_response();
    }
    let Some(addr) = peer(&request) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    if !shared.guard.admits(household(addr.ip()), Instant::now()) {
        return (StatusCode::TOO_MANY_REQUESTS, "too many requests; slow down\n").into_response();
    }
    let Some(_place) = shared.guard.under_way.take(addr.ip()) else {
        let why = "too many requests of your address under way; try again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn guard(requests_per_second: u32, burst: u32) -> Guard {
        Guard::new(true, &RpcLimits { requests_per_second, burst, ..RpcLimits::default() })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let guard = guard(10, 3);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let admitted = (0..5).filter(|_| guard.admits(a, start)).count();
        assert_eq!(admitted, 3);
        assert!(guard.admits(b, start), "addresses do not share");
        let later = start + Duration::from_millis(250);
        assert_eq!((0..5).filter(|_| guard.admits(a, later)).count(), 2);
        let much_later = start + Duration::from_secs(100);
        assert_eq!((0..9).filter(|_| guard.admits(a, much_later)).count(), 3);
    }

    #[test]
    fn tracked_addresses_are_bounded() {
        let guard = guard(1, 1);
        let now = Instant::now();
        let address = |i: u32| IpAddr::from((i + 1).to_be_bytes());
        assert!((0..4096).all(|i| guard.admits(address(i), now)));
        assert!(!guard.admits(address(5000), now), "all tracked addresses are busy");
        assert!(guard.admits(address(5000), now + Duration::from_secs(2)), "idle ones are forgotten");
        assert!(guard.buckets.lock().unwrap().len() <= 4096);
    }

    #[test]
    fn hosts() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9744", "[::1]:9744", "[::1]", "127.9.9.9"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com:80", "10.0.0.1:9744", "", "[fe80::1]:1"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
