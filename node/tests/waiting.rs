//! A transaction that was given to a node while it was alone reaches the network, over a restart in between.

use std::time::{Duration, Instant};

use podl_chain_spec::{Amount, ChainSpec};
use podl_consensus::signed::account_of;
use podl_consensus::types::{Payment, Transaction, TransactionKind};
use podl_node::config::NodeConfig;
use podl_node::service::Node;
use podl_node::wallet::well_known;

async fn start(folder: &std::path::Path) -> Node {
    let config = NodeConfig {
        data_dir: folder.into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        mdns: Some(false),
        rpc: None,
        min_free_bytes: 0,
        ..NodeConfig::default()
    };
    Node::start(&config, None).await.unwrap()
}

async fn waiting(node: &Node) -> usize {
    node.core().ask(|core| core.waiting_transactions()).await.unwrap()
}

async fn address(node: &Node) -> libp2p::Multiaddr {
    loop {
        let addresses = node.core().ask(|core| core.listen_addresses().to_vec()).await.unwrap();
        if let Some(address) = addresses.first() {
            return address.parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_to_a_lonely_node_reaches_the_network() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wallet = well_known::wallet("faucet").unwrap();
    let kind = TransactionKind::Transfer(Payment { to: account_of(wallet.key()), amount: Amount(1) });
    let message = Transaction { sender: wallet.account(), nonce: 0, fee: Amount(10_000), kind };
    let signed = wallet.sign(message, &ChainSpec::load("dev").unwrap().genesis_hash());

    let lonely = start(one.path()).await;
    lonely.core().ask(move |core| core.submit(signed)).await.unwrap().unwrap();
    lonely.stop().await.unwrap();
    let lonely = start(one.path()).await;
    assert_eq!(waiting(&lonely).await, 1, "after a clean stop");

    let other = start(two.path()).await;
    other.network().dial(address(&lonely).await).await.unwrap();
    let begun = Instant::now();
    while waiting(&other).await == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it was not told again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    other.stop().await.unwrap();
    lonely.stop().await.unwrap();
}
