//! The server over real sockets: typed calls, guards, limits.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{SmallNode, SmallProbe, account, hash, start};
use jsonrpsee::core::client::ClientT;
use jsonrpsee::rpc_params;
use podl_chain_spec::Amount;
use podl_consensus::hash::blob_root;
use podl_rpc::client::{CallError, NodeClient};
use podl_rpc::server::{Probe, RpcLimits, ServeError, serve, serve_metrics};
use podl_rpc::types::{BlockId, HexBytes};
use podl_rpc::{AdminApiClient, NodeApiClient, Token};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends a request as it is and returns status and body.
async fn http(addr: SocketAddr, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let length = body.len();
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

const POST: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
const STATUS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"node_status","params":[]}"#;

fn client(addr: SocketAddr, token: Option<&Token>) -> NodeClient {
    NodeClient::new(&addr.to_string(), token).unwrap()
}

#[tokio::test]
async fn typed_calls_and_refusals() {
    let served = start(RpcLimits::default()).await;
    let client = client(served.addr, None);
    assert_eq!(client.public().node_status().await.unwrap().head.height, 17);
    assert_eq!(client.public().chain_block(BlockId::Hash(hash(17))).await.unwrap().height, 17);
    assert_eq!(client.public().chain_block(BlockId::Height(3)).await.unwrap().height, 3);
    let error = client.explain(client.public().chain_block(BlockId::Height(99)).await.unwrap_err());
    assert!(matches!(&error, CallError::Refused(why) if why.contains("the head is 17")), "{error}");
    let id = client.public().tx_submit(HexBytes(vec![1, 2])).await.unwrap();
    assert_eq!((id, served.node.ledger.lock().unwrap().submitted.clone()), (hash(7), vec![vec![1, 2]]));
    let history = client.public().account_history(account(0), Some(17), 10).await.unwrap();
    assert!(history.is_empty());
    served.server.stop().await;
    let gone = client.explain(client.public().chain_tip().await.unwrap_err());
    assert!(matches!(gone, CallError::Unreachable { .. }), "{gone}");
}

#[tokio::test]
async fn waiting_ends_with_the_block_or_the_time() {
    let served = start(RpcLimits::default()).await;
    let client = client(served.addr, None);
    assert_eq!(client.public().chain_wait(18, 50).await.unwrap(), None);
    let waiting = client.public().chain_wait(18, 20_000);
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        served.node.head.send(18).unwrap();
    };
    let (block, ()) = tokio::join!(waiting, later);
    assert_eq!(block.unwrap().unwrap().height, 18);
}

#[tokio::test]
async fn admin_methods_need_the_token() {
    let served = start(RpcLimits::default()).await;
    let operator = client(served.addr, Some(&served.token));
    let tx = operator.admin().unwrap().admin_send(account(7), Amount(5), None).await.unwrap();
    assert_eq!((tx, served.node.ledger.lock().unwrap().sent.len()), (hash(7), 1));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"admin_shutdown","params":[]}"#;
    let head = "POST /admin HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let (status, body) = http(served.addr, head, call).await;
    assert_eq!(status, 401, "{body}");
    for wrong in ["Bearer", "Bearer 00", "Basic abc", &format!("{}0", served.token.header())] {
        let head = format!("{head}\r\nAuthorization: {wrong}");
        assert_eq!(http(served.addr, &head, call).await.0, 401, "{wrong}");
    }
    // Nor are they among the public methods, with or without the token.
    let head = format!("{POST}\r\nAuthorization: {}", served.token.header());
    assert!(http(served.addr, &head, call).await.1.contains("Method not found"));
    assert!(!served.node.ledger.lock().unwrap().is_stopped);
    let head = format!("{}\r\nAuthorization: {}", POST.replacen(" / ", " /admin ", 1), served.token.header());
    assert_eq!(http(served.addr, &head, call).await.0, 200);
    assert!(served.node.ledger.lock().unwrap().is_stopped);
    assert!(matches!(client(served.addr, None).admin(), Err(CallError::Refused(_))));
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let limits = RpcLimits { request_bytes: 10_000, response_bytes: 20_000, batch_calls: 3, ..RpcLimits::default() };
    let served = start(limits).await;
    assert_eq!(http(served.addr, POST, STATUS).await.0, 200);
    let long = STATUS.replace("[]", &format!("[\"{}\"]", "x".repeat(20_000)));
    assert_eq!(http(served.addr, POST, &long).await.0, 413);
    let batch = |calls: usize| format!("[{}]", vec![STATUS; calls].join(","));
    assert!(http(served.addr, POST, &batch(3)).await.1.contains("is_seat"));
    let (_, body) = http(served.addr, POST, &batch(4)).await;
    assert!(!body.contains("is_seat") && body.contains("error"), "{body}");
    let root = served.node.blobs.iter().find(|(_, blob)| blob.len() > 100_000).unwrap().0;
    let error = client(served.addr, None).public().blob_get(*root, 0, 100_000).await.unwrap_err();
    assert!(error.to_string().contains("too big"), "{error}");
}

#[tokio::test]
async fn floods_and_foreign_pages_are_refused() {
    let limits = RpcLimits { requests_per_second: 1, burst: 5, ..RpcLimits::default() };
    let served = start(limits).await;
    let foreign = POST.replace("localhost", "evil.example");
    assert_eq!(http(served.addr, &foreign, STATUS).await.0, 403);
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(http(served.addr, POST, STATUS).await.0);
    }
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses[6..].contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn other_requests_have_their_status() {
    let served = start(RpcLimits::default()).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1");
    assert_eq!(http(served.addr, &get("/"), "").await.0, 405);
    assert_eq!(http(served.addr, &get("/nowhere"), "").await.0, 404);
    let plain = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain";
    assert_eq!(http(served.addr, plain, STATUS).await.0, 415);
    assert!(http(served.addr, POST, "{").await.1.contains("-32700"));
    assert_eq!(http(served.addr, &get("/health"), "").await, (200, "ok\n".into()));
    assert_eq!(http(served.addr, &get("/ready"), "").await, (200, "ok\n".into()));
    served.node.head.send(0).unwrap();
    let (status, why) = http(served.addr, &get("/ready"), "").await;
    assert!(status == 503 && why.contains("catching up"), "{status} {why}");
    let (status, metrics) = http(served.addr, &get("/metrics"), "").await;
    assert!(status == 200 && metrics.contains("podl_blocks_total 17") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn a_metrics_server_serves_no_methods() {
    let node = SmallNode::new();
    let probe = Arc::new(SmallProbe(node.head.subscribe()));
    let any = "127.0.0.1:0".parse().unwrap();
    let server = serve_metrics(any, RpcLimits::default(), probe, Arc::new(Registry::default())).await.unwrap();
    assert_eq!(http(server.addr(), POST, STATUS).await.0, 404);
    assert_eq!(http(server.addr(), "GET /health HTTP/1.1\r\nHost: localhost", "").await.0, 200);
}

#[tokio::test]
async fn a_port_in_use_is_said_in_words() {
    let served = start(RpcLimits::default()).await;
    let node = SmallNode::new();
    let probe = Arc::new(SmallProbe(node.head.subscribe()));
    let none: Option<(SmallNode, Token)> = None;
    let again = serve(served.addr, RpcLimits::default(), node, none, probe, Arc::new(Registry::default())).await;
    let error = again.unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }));
    assert!(error.to_string().contains("is another node running there?"), "{error}");
}

#[tokio::test]
async fn blobs_come_in_pieces_and_are_checked() {
    let served = start(RpcLimits::default()).await;
    let client = client(served.addr, None);
    let (root, blob) = served.node.blobs.iter().find(|(_, blob)| blob.len() == 3_000_000).unwrap();
    let mut steps = Vec::new();
    let fetched = client.blob(*root, 1 << 30, |done, _| steps.push(done)).await.unwrap();
    assert_eq!((&fetched, steps.len()), (blob, 3));
    let small = client.blob(*root, 2_999_999, |_, _| ()).await;
    assert!(matches!(small, Err(CallError::BlobTooLarge { got: 3_000_000, .. })));
    let other = client.blob(hash(0xbb), 1 << 30, |_, _| ()).await;
    assert!(matches!(other, Err(CallError::Blob { got, .. }) if got == blob_root(b"other bytes")));
    assert!(matches!(client.blob(hash(1), 1 << 30, |_, _| ()).await, Err(CallError::Refused(_))));
}

#[tokio::test]
async fn silent_connections_are_closed_and_their_places_reused() {
    let limits = RpcLimits { connections: 2, idle: Duration::from_millis(300), ..RpcLimits::default() };
    let served = start(limits).await;
    let mut silent = [TcpStream::connect(served.addr).await.unwrap(), TcpStream::connect(served.addr).await.unwrap()];
    silent[0].write_all(b"POST / HT").await.unwrap();
    let begin = Instant::now();
    // Waits in line until a place is free.
    assert_eq!(http(served.addr, POST, STATUS).await.0, 200);
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    let mut rest = Vec::new();
    for stream in &mut silent {
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a silent connection stays open");
    }
}

#[tokio::test]
async fn requests_under_way_are_bounded() {
    let served = start(RpcLimits { requests_under_way: 1, ..RpcLimits::default() }).await;
    let waiting = client(served.addr, None);
    let long = waiting.public().chain_wait(99, 1500);
    let probe = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        http(served.addr, POST, STATUS).await.0
    };
    let (answer, status) = tokio::join!(long, probe);
    assert_eq!((answer.unwrap(), status), (None, 503));
    assert_eq!(http(served.addr, POST, STATUS).await.0, 200);
}

/// Answers once it is let go, as a node that is busy.
#[derive(Default)]
struct BusyProbe {
    is_free: Mutex<bool>,
    freed: Condvar,
    asked: AtomicUsize,
}

impl BusyProbe {
    fn free(&self) {
        *self.is_free.lock().unwrap() = true;
        self.freed.notify_all();
    }
}

impl Probe for BusyProbe {
    fn health(&self) -> Result<(), String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let guard = self.is_free.lock().unwrap();
        let waited = self.freed.wait_timeout_while(guard, Duration::from_secs(60), |free| !*free).unwrap();
        if waited.1.timed_out() { Err("never let go".into()) } else { Ok(()) }
    }

    fn ready(&self) -> Result<(), String> {
        panic!("as the test wants")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_asks_a_busy_node_for_its_health_holds_up_nobody_else() {
    let (node, probe) = (SmallNode::new(), Arc::new(BusyProbe::default()));
    let any = "127.0.0.1:0".parse().unwrap();
    let none: Option<(SmallNode, Token)> = None;
    let registry = Arc::new(Registry::default());
    let server = serve(any, RpcLimits::default(), node, none, probe.clone(), registry).await.unwrap();
    let addr = server.addr();
    let asking: Vec<_> = (0..20)
        .map(|_| tokio::spawn(async move { http(addr, "GET /health HTTP/1.1\r\nHost: localhost", "").await }))
        .collect();
    let all_but_health = async {
        while probe.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        (http(addr, POST, STATUS).await.0, http(addr, "GET /ready HTTP/1.1\r\nHost: localhost", "").await.0)
    };
    let others = tokio::time::timeout(Duration::from_secs(30), all_but_health).await;
    probe.free();
    assert_eq!(others.expect("others are served"), (200, 503), "and a probe that fails is an answer too");
    for answer in asking {
        assert_eq!(answer.await.unwrap(), (200, "ok\n".into()));
    }
    let asked = probe.asked.load(Ordering::SeqCst);
    assert!(asked < 20, "{asked}: those who came meanwhile share an answer");
}

#[tokio::test]
async fn a_body_that_comes_slowly_takes_no_callers_place_and_ends() {
    let limits = RpcLimits { requests_under_way: 1, body: Duration::from_secs(2), ..RpcLimits::default() };
    let served = start(limits).await;
    let mut slow = TcpStream::connect(served.addr).await.unwrap();
    slow.write_all(format!("{POST}\r\nContent-Length: 1000\r\n\r\n{{").as_bytes()).await.unwrap();
    // Answered after the server has taken the slow one up: it reads connections in their order.
    assert_eq!(http(served.addr, POST, STATUS).await.0, 200);
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), slow.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "a request that never ends is given up");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn hostile_json_is_refused_and_harms_nobody() {
    let served = start(RpcLimits::default()).await;
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let params = |params: &str| STATUS.replace("node_status", "chain_wait").replace("[]", params);
    let bodies = [
        deep(500_000),
        "[".repeat(1_000_000),
        params(&deep(400_000)),
        params("[18446744073709551616, 1e999]"),
        params("[-1, -1]"),
        STATUS.replace("\"id\":1", &format!("\"id\":\"{}\"", "9".repeat(900_000))),
        STATUS.replace("\"id\":1", &format!("\"id\":{}", "9".repeat(900_000))),
        STATUS.replace("node_status", "tx_submit").replace("[]", &format!("[\"{}\"]", "0".repeat(999_999))),
    ];
    for body in &bodies {
        let (status, answer) = http(served.addr, POST, body).await;
        assert!(status > 0, "{} bytes were not answered", body.len());
        assert!(answer.len() <= 2 << 20, "{}", answer.len());
    }
    // The longest times there are end with the server's own limit, not in an overflow.
    let client = client(served.addr, None);
    assert_eq!(client.public().chain_wait(0, u64::MAX).await.unwrap().unwrap().height, 0);
    assert_eq!(http(served.addr, POST, STATUS).await.0, 200);
}

#[tokio::test]
async fn stopping_does_not_wait_for_long_polls() {
    let served = start(RpcLimits::default()).await;
    let client = client(served.addr, None);
    let poll = tokio::spawn(async move { client.public().chain_wait(99, 30_000).await.is_err() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    served.server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    drop(poll);
}

#[tokio::test]
async fn parameters_may_have_names() {
    let served = start(RpcLimits::default()).await;
    let client = client(served.addr, None);
    let mut named = jsonrpsee::core::params::ObjectParams::new();
    named.insert("block", 17).unwrap();
    let block: serde_json::Value = client.public().request("chain_block", named).await.unwrap();
    assert_eq!(block["height"], 17);
    let error = client.public().request::<serde_json::Value, _>("chain_block", rpc_params!["x"]).await.unwrap_err();
    assert!(error.to_string().contains("-32602") || error.to_string().contains("nvalid"), "{error}");
}

/// Values of an attribute, in elements and in their order.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let begins = format!(" {name}=\"");
    html.split(begins.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Parts of a page that stand for one call each, with what their fields are read from: a call's result or a row of it.
fn shown<'a>(html: &'a str, answers: &'a BTreeMap<&str, Value>) -> Vec<(&'a str, &'a Value)> {
    let parts = html.split("data-from=\"").skip(1).map(|part| {
        let call = part.split('"').next().unwrap();
        let answer = &answers[call];
        let rows = attributes(part.split('>').next().unwrap(), "data-rows");
        (part, rows.first().map_or(answer, |rows| &answer[*rows]))
    });
    parts.map(|(part, answer)| (part, answer.get(0).unwrap_or(answer))).collect()
}

#[tokio::test]
async fn the_page_of_a_pool_shows_what_the_methods_answer() {
    let served = start(RpcLimits::default()).await;
    let get = async |path: &str| http(served.addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost"), "").await;
    let (status, html) = get("/pool").await;
    assert_eq!(status, 200);
    for other in attributes(&html, "href").into_iter().chain(attributes(&html, "src")) {
        assert!(other == "data:," || get(&format!("/{other}")).await.0 == 200, "{other}");
    }
    let client = client(served.addr, None);
    let public = client.public();
    let answers = BTreeMap::from([
        ("node_status", serde_json::to_value(public.node_status().await.unwrap()).unwrap()),
        ("pool_status", serde_json::to_value(public.pool_status().await.unwrap()).unwrap()),
        ("pool_payouts", serde_json::to_value(public.pool_payouts(1).await.unwrap()).unwrap()),
    ]);
    let parts = shown(&html, &answers);
    assert!(parts.len() > 10);
    for (part, answer) in parts {
        let names: Vec<&str> = [attributes(part, "data-field"), attributes(part, "data-of")].concat();
        assert!(!names.is_empty());
        for name in names {
            let value = name.split('.').try_fold(answer, |inner, key| inner.get(key));
            assert!(value.is_some(), "{name} is not in {answer}");
        }
    }
    let (_, script) = get("/pool.js").await;
    for kind in attributes(&html, "data-as") {
        assert!(script.contains(&format!("\n  {kind}: ")), "{kind}");
    }
    // Another host's name is refused here as everywhere.
    assert_eq!(http(served.addr, "GET /pool HTTP/1.1\r\nHost: evil.example", "").await.0, 403);
}
