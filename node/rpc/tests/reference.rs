//! docs/rpc.md is what this file renders: every method is called over a real socket with the parameters that the
//! reference shows, and what comes back is the result that it shows. `PODL_UPDATE_DOCS=1 cargo test -p podl-rpc
//! --test reference` writes it anew.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use common::{SmallNode, account, hash, start};
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::ObjectParams;
use podl_consensus::hash::blob_root;
use podl_consensus::workload::Space;
use podl_rpc::client::NodeClient;
use podl_rpc::server::RpcLimits;
use podl_rpc::types::{CHUNK_BYTES, LIST_LIMIT, WAIT_LIMIT_MS};
use podl_rpc::{AdminApiServer, ApiErrorKind, NodeApiServer, TOKEN_FILE};
use serde_json::{Value, json};

/// A method as the reference tells of it.
struct Method {
    name: &'static str,
    text: String,
    /// Name and example of each parameter, in their order.
    params: Vec<(&'static str, Value)>,
}

fn method(name: &'static str, text: impl Into<String>, params: Vec<(&'static str, Value)>) -> Method {
    Method { name, text: text.into(), params }
}

fn public() -> Vec<Method> {
    let list = format!("At most {LIST_LIMIT} entries.");
    vec![
        method(
            "node_status",
            "What the node is and how it fares. `account` is null without a wallet. `network_height` is the highest \
             that a peer told of.",
            vec![],
        ),
        method(
            "node_peers",
            "Connected peers. `height` is what a peer told of; null for one that is no node, such as a pool's miner. At 100 \
             `points` a peer is banned for a while.",
            vec![],
        ),
        method("chain_spec", "The chain's specification: every parameter of the protocol.", vec![]),
        method("chain_tip", "The head, as `chain_block` shows it.", vec![]),
        method(
            "chain_block",
            "A block, by height on the head's chain (a number) or by hash (text). `kind` is `scored`, `void` or \
             `idle`; `score` is null unless it is scored. `task` of a filler block is the filler's id.",
            vec![("block", json!(17))],
        ),
        method(
            "chain_raw_block",
            "A block's canonical bytes, for programs that check for themselves.",
            vec![("block", json!(hash(17)))],
        ),
        method(
            "chain_wait",
            format!(
                "Waits until the head's height is at least `height` and answers with the block of that height; null \
                 when `timeout_ms` (at most {WAIT_LIMIT_MS}) passed before. To follow a chain, ask for one height after \
                 the other."
            ),
            vec![("height", json!(17)), ("timeout_ms", json!(10_000))],
        ),
        method(
            "chain_seats",
            "Seats, finality and supply after the head. `previous` are the seats before the last change made by \
             finality, which vote too.",
            vec![],
        ),
        method(
            "chain_supply",
            "A recount of all money in the state of the last final block, over every account and every task. `supply`, \
             `minted` and `burned` are what the state records, `genesis` what the specification gives; the rest is \
             counted. `adds_up` says that `total` is `supply` and that this is `genesis` + `minted` - `burned`. The \
             answer is kept until another block is final.",
            vec![],
        ),
        method(
            "chain_state_proof",
            "A value of the head's state and the proof that the block's state root commits to it (or, with a null \
             value, that there is none). `subject` is `\"meta\"`, `\"live_tasks\"`, `{\"account\": ADDRESS}`, \
             `{\"task_spec\": ID}` or `{\"task_status\": ID}`. Check it with `podl_consensus::state::verify_proof`, as \
             `podl wallet balance --verify` does.",
            vec![("subject", json!({ "account": account(8) }))],
        ),
        method(
            "account_get",
            "An account after the head; one that never was is empty. `next_nonce` counts transactions that wait.",
            vec![("account", json!(account(8)))],
        ),
        method(
            "account_history",
            format!(
                "What changed an account, newest first, in blocks below height `before` (null: from the head on). \
                 `kind` is `sent`, `received`, `paid_out`, `pool_pay`, `published`, `cancelled`, `produced` or `other`. \
                 {list}"
            ),
            vec![("account", json!(account(8))), ("before", Value::Null), ("limit", json!(10))],
        ),
        method(
            "tx_submit",
            "Takes a signed transaction in canonical bytes, passes it on and answers with its id.",
            vec![("transaction", json!("00ff"))],
        ),
        method(
            "tx_status",
            "Where a transaction stands: `unknown`, `waiting`, `included` or `final`.",
            vec![("id", json!(hash(7)))],
        ),
        method(
            "task_list",
            format!("Tasks that are pending, open or active; with `all` those that ended too, newest first. {list}"),
            vec![("all", json!(false)), ("limit", json!(100))],
        ),
        method("task_get", "Everything about a task but its sealed shards.", vec![("id", json!(hash(5)))]),
        method(
            "model_list",
            format!("Models that won blocks, newest first, of one task or (null) of all. {list}"),
            vec![("task", json!(hash(5))), ("limit", json!(10))],
        ),
        method(
            "blob_get",
            format!(
                "A piece of a blob (artefact, data, shard) that the node holds, at most {CHUNK_BYTES} bytes. Whoever \
                 has all pieces checks that their BLAKE3 is `root`."
            ),
            vec![("root", json!(blob_root(b"model"))), ("offset", json!(1)), ("bytes", json!(100))],
        ),
        method(
            "interval_status",
            "The interval under way on this node's clock. `phase` is `waiting`, `init`, `train`, `close`, `release`, \
             `reveal`, `validate`, `voted` or `fallback`; `remaining_ms` is null for phases without an end of their own.",
            vec![],
        ),
        method(
            "pool_status",
            "The pool that this node manages. A miner's `share_ppm` is in millionths of the pay window; `paid`, audits and \
             networks that changed hands are counted since the pool knows it. `luck`: of the last intervals that are over and \
             in which the pool had verified work, at most 64, how many it won. `coverage`: networks of the current task's \
             space, as decimal strings where they can be large; null before the first interval.",
            vec![],
        ),
        method(
            "pool_payouts",
            format!(
                "Payouts of this node's pool, newest first; a payment is account, verified multiply-accumulates, \
                 amount. {list}"
            ),
            vec![("limit", json!(10))],
        ),
        method(
            "pool_shares",
            "The share list of a block that this node's pool won: all that its division follows from. `pay` is \
             `{\"pplns\": ..}`, by `macs` in a window of intervals with a bonus to the `finder`, or `\"performance\"`, by \
             `points`. A payout's transaction carries `shares_root`. `podl pool payouts --verify` computes all of it \
             again.",
            vec![("block", json!(hash(17)))],
        ),
        method(
            "pool_share_proofs",
            "An account's rows of that list, each with the way to `shares_root`: the neighbours' hashes from the row \
             upward, and whether they stand left. Check them with `podl_pool::ledger::verify`.",
            vec![("block", json!(hash(17))), ("account", json!(account(4)))],
        ),
    ]
}

fn admin() -> Vec<Method> {
    let request = json!({
        "name": "birds",
        "dataset": "cifar10:/data/cifar10",
        "space": Space::preset("S9", 6),
        "bounds": { "lut": 100_000, "throughput": 1000 },
        "reward": 40_000_000,
        "rounds": 5,
        "shard_images": null,
        "validation_images": null,
        "epochs": 3,
        "bond": null,
        "min_gain": 1,
        "backup": "/home/alice/task.keys.backup",
    });
    vec![
        method(
            "admin_publish_task",
            "Reads a data set from the node's disk, cuts it into training, search-validation and test images, seals \
             the test shards, and publishes the task from the node's account. The shard keys lie encrypted in \
             `key_file` and `backup_file`. Null lets the node choose: test images shared out evenly, a tenth for \
             validation, one round's reward as bond, a backup beside the keys.",
            vec![("request", request)],
        ),
        method(
            "admin_cancel_task",
            "Withdraws a task of the node's account; unspent rewards and the bond return. Answers with the transaction.",
            vec![("id", json!(hash(5)))],
        ),
        method(
            "admin_send",
            "Sends money from the node's account; a null fee is the least that the chain takes.",
            vec![("to", json!(account(7))), ("amount", json!(12_500_000)), ("fee", Value::Null)],
        ),
        method(
            "admin_connect",
            "Connects to a peer.",
            vec![("address", json!("/ip4/10.0.0.7/tcp/9743/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"))],
        ),
        method("admin_shutdown", "Stops the node cleanly. The answer comes before the node is down.", vec![]),
    ]
}

fn introduction() -> String {
    let limits = RpcLimits::default();
    let mut text = format!(
        "# RPC reference\n\n\
         JSON-RPC 2.0 over HTTP POST, on 127.0.0.1:9744 unless `--rpc` says otherwise. Parameters go by position or by \
         name. Amounts are integers in the smallest unit (1 PODL = 1,000,000), times are milliseconds, hashes and bytes \
         hexadecimal text, accounts `podl1…` addresses. Integers can exceed 2^53: use a parser that keeps them.\n\n\
         ```\ncurl -s http://127.0.0.1:9744 -H 'Content-Type: application/json' \\\n  \
         -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"chain_block\",\"params\":[17]}}'\n```\n\n\
         - Public methods answer on `/`. Admin methods answer on `/admin`, to callers on the same machine that send \
         `Authorization: Bearer TOKEN`; the token is in the file `{TOKEN_FILE}` of the node's data folder, which only \
         its owner can read.\n\
         - `/health` (does the node work), `/ready` (is it caught up) and `/metrics` (OpenMetrics text) are plain HTTP \
         GET, on the same address and on that of `--metrics`. `/pool`, on the RPC address alone, is a page that shows the \
         node's pool and keeps itself up to date (docs/pool.md).\n\
         - Limits: {} bytes a request, {} bytes an answer, {} calls a batch, {} open connections, {} requests under way \
         (status 503), {} requests a second and address with bursts of {} (status 429). An address on another machine \
         (or a /64 of IPv6) has at most {} connections open and {} requests under way. A request must be in within \
         {} s (status 408).\n\
         - On a loopback address the `Host` header must name this machine (status 403), so that no web page can reach \
         a node through a name of its own.\n\n\
         ## Errors\n\n| code | meaning |\n|---|---|\n",
        limits.request_bytes,
        limits.response_bytes,
        limits.batch_calls,
        limits.connections,
        limits.requests_under_way,
        limits.requests_per_second,
        limits.burst,
        limits.connections_per_address,
        limits.under_way_per_address,
        limits.body.as_secs(),
    );
    for kind in ApiErrorKind::ALL {
        let meaning = match kind {
            ApiErrorKind::InvalidParams => "a parameter is malformed or out of its range",
            ApiErrorKind::NotFound => "there is no such block, task, transaction or blob here",
            ApiErrorKind::NotReady => "the node is syncing or stopping; try again later",
            ApiErrorKind::Rejected => "the chain's rules or the mempool refuse it",
            ApiErrorKind::Unavailable => "this node does not run that part (pool manager, wallet)",
            ApiErrorKind::Internal => "the node's own fault; its log says more",
        };
        writeln!(text, "| {} | {meaning} |", kind.code()).unwrap();
    }
    text
}

/// Calls the method as documented and renders it.
async fn render(method: &Method, client: &jsonrpsee::http_client::HttpClient) -> String {
    let mut params = ObjectParams::new();
    method.params.iter().for_each(|(name, value)| params.insert(name, value).unwrap());
    let result: Value = client.request(method.name, params).await.unwrap_or_else(|e| panic!("{}: {e}", method.name));
    let names: Vec<&str> = method.params.iter().map(|(name, _)| *name).collect();
    let mut text = format!("\n### {}({})\n\n{}\n", method.name, names.join(", "), method.text);
    let values: Vec<&Value> = method.params.iter().map(|(_, value)| value).collect();
    let result = match method.name {
        // As long as all other answers together, and no secret.
        "chain_spec" => "… as `podl chain spec --json` prints it".to_owned(),
        _ => serde_json::to_string_pretty(&result).unwrap(),
    };
    write!(text, "\n```\nparams {}\nresult {result}\n```\n", serde_json::to_string(&values).unwrap()).unwrap();
    text
}

#[tokio::test]
async fn the_reference_is_what_the_server_does() {
    let served = start(RpcLimits::default()).await;
    let client = NodeClient::new(&served.addr.to_string(), Some(&served.token)).unwrap();
    let mut text = introduction();
    for (title, methods, client) in
        [("Public methods", public(), client.public()), ("Admin methods", admin(), client.admin().unwrap())]
    {
        write!(text, "\n## {title}\n").unwrap();
        for method in &methods {
            text += &render(method, client).await;
        }
    }
    // Where this package is now: a build folder shared by several clones may hold a test that was compiled in another.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let path = format!("{package}/../../docs/rpc.md");
    if std::env::var_os("PODL_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == text, "docs/rpc.md is not up to date: run this test with PODL_UPDATE_DOCS=1");
}

#[test]
fn every_method_is_in_the_reference_and_no_other() {
    let names = |methods: Vec<Method>| methods.iter().map(|m| m.name).collect::<BTreeSet<_>>();
    let node = SmallNode::new();
    assert_eq!(names(public()), NodeApiServer::into_rpc(node.clone()).method_names().collect());
    assert_eq!(names(admin()), AdminApiServer::into_rpc(node).method_names().collect());
}
