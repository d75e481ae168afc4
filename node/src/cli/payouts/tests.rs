//! A pool's node and a trusted one, each as few methods over a real socket, on a chain of the testkit.

use jsonrpsee::RpcModule;
use jsonrpsee::server::{ServerBuilder, ServerHandle};
use podl_consensus::execute::Event;
use podl_consensus::testkit::{Harness, account, small_spec};
use podl_consensus::types::{ModelRoot, Outcome};
use podl_pool::ledger::{Ledger, PayScheme, PayTerms, WonBlock};
use podl_pool::types::MinerId;
use podl_rpc::types::{
    BlockView, CheckpointView, HexBytes, NodeStatus, PoolLuckView, PoolStatus, PoolWorkView, RawBlock, TxStatus,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;

/// Accounts of the testkit: the pool's manager and its miners.
const MANAGER: u64 = 10;
const MINERS: [u64; 3] = [20, 21, 20];

/// A chain on which a pool won a block and paid it.
struct World {
    spec: ChainSpec,
    list: ShareList,
    won: Block,
    paying: Block,
    tx: Hash32,
}

fn won_list(spec: &ChainSpec, won: &Block, model: ModelRoot) -> ShareList {
    let terms = PayTerms { fee_basis_points: 100, scheme: PayScheme::Pplns { window: 4, finder_basis_points: 500 } };
    let mut ledger = Ledger::default();
    ledger.begin(1, terms.scheme);
    for (number, to) in (1u8..).zip(MINERS) {
        ledger.credit(MinerId(Hash32([number; 32])), account(to), u64::from(number) * 1_000_000_007);
    }
    ledger.note_model(model, MinerId(Hash32([2; 32])), account(21));
    let won = WonBlock { block: won.hash(), height: 1, reward: spec.money.filler_subsidy, model: Some(model) };
    ledger.close(&won, terms);
    ledger.list(&won.block).unwrap().clone()
}

fn world() -> World {
    world_that_pays(|_| ())
}

/// The same with a payout that was changed before it was signed.
fn world_that_pays(change: impl Fn(&mut BatchPayment)) -> World {
    let spec = small_spec(4, 24);
    let mut h = Harness::new(spec.clone());
    let parts = h.parts(h.genesis());
    let won = h.scored(h.genesis(), MANAGER, 40, parts);
    h.import(won.clone()).unwrap();
    let Outcome::Scored { opening, .. } = &won.body.outcome else { panic!("scored") };
    let list = won_list(&spec, &won, opening.model_root);
    let mut batch = list.batch(&account(MANAGER)).unwrap();
    change(&mut batch);
    let signed = h.transaction(MANAGER, 0, TransactionKind::BatchPayout(batch));
    let tx = signed.message.id();
    let mut parts = h.parts(won.hash());
    parts.transactions = vec![signed];
    let paying = h.scored(won.hash(), 11, 40, parts);
    h.import(paying.clone()).unwrap();
    World { spec, list, won, paying, tx }
}

/// A node that answers these methods whatever the parameters.
fn serve(runtime: &Runtime, answers: Vec<(&'static str, Value)>) -> (NodeClient, ServerHandle) {
    runtime.block_on(async {
        let mut module = RpcModule::new(());
        for (name, answer) in answers {
            module.register_method(name, move |_, _, _| answer.clone()).unwrap();
        }
        let server = ServerBuilder::default().build("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        (NodeClient::new(&address, None).unwrap(), server.start(module))
    })
}

fn status(spec: &ChainSpec) -> NodeStatus {
    let point = CheckpointView { height: 2, hash: Hash32::ZERO };
    NodeStatus {
        version: "1".into(),
        commit: "c".into(),
        chain_name: spec.name.clone(),
        chain: spec.genesis_hash(),
        peer_id: String::new(),
        listen: Vec::new(),
        account: None,
        is_seat: false,
        is_mining: false,
        is_pool_manager: true,
        head: point,
        finalised: point,
        is_syncing: false,
        network_height: 2,
        peers: 0,
        mempool_transactions: 0,
        uptime_ms: 0,
        disk_free_bytes: 0,
    }
}

fn pool_status() -> PoolStatus {
    PoolStatus {
        urls: Vec::new(),
        account: account(MANAGER),
        fee_basis_points: 100,
        pay: shares::pay_view(PayScheme::default()),
        window_macs: 0,
        partition: String::new(),
        best_correct: None,
        holdout_images: 0,
        commitments: 0,
        running_leases: 0,
        work: PoolWorkView::default(),
        coverage: None,
        luck: PoolLuckView::default(),
        miners: Vec::new(),
    }
}

impl World {
    /// What the manager answers with this list.
    fn manager(&self, list: &ShareList, spec: &ChainSpec) -> Vec<(&'static str, Value)> {
        let payout = PayoutView {
            block: list.block,
            height: 1,
            tx: Some(self.tx),
            is_final: true,
            shares_root: list.root(),
            reward: list.reward,
            fee: list.fee,
            payments: Vec::new(),
        };
        vec![
            ("node_status", json!(status(spec))),
            ("pool_status", json!(pool_status())),
            ("pool_payouts", json!([payout])),
            ("pool_shares", json!(shares::view(list))),
            ("pool_share_proofs", json!(shares::proofs(list, &account(20)))),
        ]
    }

    fn chain(&self) -> Vec<(&'static str, Value)> {
        let held = RawBlock { height: 2, hash: self.paying.hash(), bytes: HexBytes(codec::encode(&self.paying)) };
        let at = TxStatus { id: self.tx, state: TxState::Final, height: Some(2), block: Some(self.paying.hash()) };
        vec![
            ("chain_spec", json!(self.spec)),
            ("chain_block", json!(BlockView::new(&self.won, 100, true, true))),
            ("tx_status", json!(at)),
            ("chain_raw_block", json!(held)),
        ]
    }

    /// The verdict of a miner of account 20 on a manager that shows this list.
    fn verdict(&self, list: &ShareList, chain: Vec<(&'static str, Value)>) -> anyhow::Result<Verdict> {
        let runtime = Runtime::new().unwrap();
        let (manager, _manager) = serve(&runtime, self.manager(list, &self.spec));
        let (chain, _chain) = serve(&runtime, chain);
        let (owner, gathered) = block_on(gather(&manager, &chain, 10, Some(account(20))))?;
        let verdict = judge(&gathered[0], &owner, Some(account(20)));
        let whole = verify(&manager, &chain, 10, Some(account(20)), &Out::new(true));
        assert_eq!(whole.is_err(), verdict.state == "differs", "the exit status says so");
        Ok(verdict)
    }
}

#[test]
fn an_honest_payout_is_verified_to_the_last_unit() {
    let world = world();
    let verdict = world.verdict(&world.list, world.chain()).unwrap();
    assert_eq!((verdict.state, verdict.differences.as_slice()), ("verified", &[][..]));
    let cut = verdict.cut.clone().unwrap();
    let own = world.list.rows.iter().filter(|row| row.account == account(20));
    assert_eq!(cut.amount.0, own.map(|row| row.amount.0).sum::<u64>());
    assert_eq!((cut.macs, cut.window_macs, cut.bonus), (4_000_000_028, 6_000_000_042, Amount::ZERO));
    assert!(text(&verdict).contains("4,000,000,028 of 6,000,000,042 verified MACs"), "{}", text(&verdict));
}

#[test]
fn a_tampered_list_is_caught() {
    let world = world();
    let caught = |change: &dyn Fn(&mut ShareList), words: &str| {
        let mut list = world.list.clone();
        change(&mut list);
        let verdict = world.verdict(&list, world.chain()).unwrap();
        assert_eq!(verdict.state, "differs");
        assert!(verdict.differences.iter().any(|d| d.contains(words)), "{words}: {:?}", verdict.differences);
        assert!(verdict.differences.iter().any(|d| d.contains("the root on chain")), "{:?}", verdict.differences);
    };
    caught(&|list| list.rows[0].macs *= 2, "its work gives");
    caught(&|list| list.rows[0].amount.0 -= 1, "its work gives");
    caught(&|list| list.fee.0 += 1, "the fee is");
    caught(&|list| list.finder = None, "the bonus of");
    caught(&|list| list.model = Some(Hash32([1; 32])), "another model");
    caught(&|list| list.height = 2, "height");
    // A manager that hides a part of the reward can make a list that holds by itself, but not with the chain.
    caught(&|list| list.reward.0 /= 2, "the block paid");
}

#[test]
fn a_transaction_that_pays_otherwise_is_caught() {
    let cheat = world_that_pays(|batch| batch.payments[0].amount.0 -= 1);
    let verdict = cheat.verdict(&cheat.list, cheat.chain()).unwrap();
    assert_eq!((verdict.state, verdict.differences.len()), ("differs", 1));
    assert!(verdict.differences[0].contains("was paid"), "{:?}", verdict.differences);
    let other = world_that_pays(|batch| batch.shares_root = Hash32([1; 32]));
    let found = other.verdict(&other.list, other.chain()).unwrap().differences;
    assert!(found[0].contains("the root on chain") && found[1].contains("the proof of"), "{found:?}");
    // A node that changes what a block holds.
    let honest = world();
    let mut forged = honest.paying.clone();
    let TransactionKind::BatchPayout(batch) = &mut forged.body.transactions[0].message.kind else { panic!() };
    batch.payments[0].amount.0 -= 1;
    let mut chain = honest.chain();
    chain[3].1 = json!(RawBlock { height: 2, hash: forged.hash(), bytes: HexBytes(codec::encode(&forged)) });
    let error = honest.verdict(&honest.list, chain).unwrap_err().to_string();
    assert!(error.contains("another block"), "{error}");
    // A transaction that the manager calls final and the chain does not know.
    let mut chain = honest.chain();
    chain[2].1 = json!(TxStatus { id: honest.tx, state: TxState::Unknown, height: None, block: None });
    let verdict = honest.verdict(&honest.list, chain).unwrap();
    assert!(verdict.differences[0].contains("the chain does not have it"), "{:?}", verdict.differences);
}

#[test]
fn nodes_of_different_chains_are_not_compared() {
    let world = world();
    let mut chain = world.chain();
    chain[0].1 = json!(small_spec(5, 24));
    let error = world.verdict(&world.list, chain).unwrap_err().to_string();
    assert!(error.contains("the other on"), "{error}");
}

#[test]
fn what_a_round_pays_is_what_the_chain_pays() {
    let spec = small_spec(4, 24);
    let mut h = Harness::new(spec.clone());
    let (task, parent) = h.open_task(h.genesis(), 7, 2);
    let parts = h.parts(parent);
    let won = h.scored(parent, MANAGER, 40, parts);
    assert_eq!(won.header.message.task, task);
    let events = h.import(won).unwrap().events;
    let paid = events.iter().find_map(|event| match event {
        Event::Rewarded { account: to, amount } if *to == account(MANAGER) => Some(*amount),
        _ => None,
    });
    assert_eq!(Some(round_pay(&spec, spec.money.min_reward)), paid, "the testkit's tasks pay the least reward");
}
