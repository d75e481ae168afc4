//! Vectors of the rules of transactions that need no state.

use podl_chain_spec::Amount;

use super::{Fixture, account, fixture};
use crate::rules::transaction::{FormError, PublishError, check_form, check_publish};
use crate::signed::Signed;
use crate::testkit::signing_key;
use crate::types::{BatchPayment, Evidence, Payment, PublishTask, SignedTransaction, TransactionKind};

impl Fixture {
    fn form(&self, kind: TransactionKind) -> Result<(), FormError> {
        check_form(self.h.chain.spec(), &self.h.transaction(6, 0, kind))
    }

    fn publishable(&mut self, change: impl FnOnce(&mut PublishTask)) -> Result<(), PublishError> {
        let (mut task, _) = self.h.task(3);
        change(&mut task);
        check_publish(self.h.chain.spec(), &task)
    }
}

/// Something wrong with a task.
type Change = fn(&mut PublishTask);

fn batch(payments: &[(u64, u64)]) -> TransactionKind {
    let mut payments: Vec<Payment> =
        payments.iter().map(|(to, amount)| Payment { to: account(*to), amount: Amount(*amount) }).collect();
    payments.sort_by_key(|payment| payment.to);
    TransactionKind::BatchPayout(BatchPayment {
        block: podl_chain_spec::Hash32([1; 32]),
        shares_root: podl_chain_spec::Hash32([2; 32]),
        payments,
    })
}

#[test]
fn bytes_pay_their_fee_and_are_bounded() {
    let f = fixture();
    let spec = f.h.chain.spec();
    let payment = Payment { to: account(1), amount: Amount(1) };
    let mut good = f.h.transaction(6, 0, TransactionKind::Transfer(payment)).into_inner();
    check_form(spec, &good).unwrap();
    good.message.fee = Amount(9);
    let cheap: SignedTransaction = Signed::new(good.message, &f.h.chain.chain_hash(), &signing_key(6));
    let bytes = crate::codec::encode(&cheap).len();
    let need = Amount(spec.money.fee_per_byte.0 * bytes as u64);
    assert_eq!(check_form(spec, &cheap), Err(FormError::Fee { got: Amount(9), bytes, need }));
    let many: Vec<_> = (0..4000).map(|n| (n, 1)).collect();
    let error = f.form(batch(&many)).unwrap_err();
    assert!(matches!(error, FormError::Bytes { limit: 131_072, .. }));
}

#[test]
fn payments_are_of_something_and_batches_sorted_distinct_and_bounded() {
    let f = fixture();
    f.form(batch(&[(1, 5), (2, 6)])).unwrap();
    let nothing = Payment { to: account(1), amount: Amount::ZERO };
    assert_eq!(f.form(TransactionKind::Transfer(nothing)), Err(FormError::NoAmount));
    assert_eq!(f.form(batch(&[(1, 5), (2, 0)])), Err(FormError::NoAmount));
    assert_eq!(f.form(batch(&[])), Err(FormError::BatchLength { got: 0, limit: 1024 }));
    let many: Vec<_> = (0..1025).map(|n| (n, 1)).collect();
    assert_eq!(f.form(batch(&many)), Err(FormError::BatchLength { got: 1025, limit: 1024 }));
    assert_eq!(f.form(batch(&[(1, 5), (1, 6)])), Err(FormError::BatchOrder));
    let TransactionKind::BatchPayout(mut unsorted) = batch(&[(1, 5), (2, 6)]) else { unreachable!("a batch") };
    unsorted.payments.reverse();
    assert_eq!(f.form(TransactionKind::BatchPayout(unsorted)), Err(FormError::BatchOrder));
}

#[test]
fn evidence_and_leaving_are_not_active_yet() {
    let f = fixture();
    let vote = f.h.votes(f.parent, &[]).remove(0).into_inner();
    let evidence = Box::new(Evidence::Votes(vote.clone(), vote));
    assert_eq!(f.form(TransactionKind::Evidence(evidence)), Err(FormError::NotActive("evidence")));
    assert_eq!(f.form(TransactionKind::LeaveSeat), Err(FormError::NotActive("leaving a seat")));
}

#[test]
fn tasks_keep_to_every_bound() {
    let mut f = fixture();
    let spec = f.h.chain.spec().clone();
    f.publishable(|_| ()).unwrap();
    for name in ["", " lead", "trail ", "tab\there", "naïve", &"x".repeat(65)] {
        assert_eq!(f.publishable(|t| t.name = name.into()), Err(PublishError::Name), "{name:?}");
    }
    f.publishable(|t| t.name = "x".repeat(64)).unwrap();
    let space = f.publishable(|t| t.workload.space.conv_layers = 0);
    assert!(matches!(space, Err(PublishError::Workload(_))));
    let versions = f.publishable(|t| t.workload.versions.engine += 1);
    assert!(matches!(versions, Err(PublishError::Versions { .. })));
    let ranges: [(&str, Change); 9] = [
        ("the number of rounds", |t| t.shards.clear()),
        ("the bytes of the training data", |t| t.data.bytes = 0),
        ("the bytes of the training data", |t| t.data.bytes = u64::MAX),
        ("the number of training images", |t| t.train_images = 0),
        ("the number of epochs", |t| t.epochs = 0),
        ("the gain", |t| t.min_gain = t.workload.shard_images + 1),
        ("the bytes of a shard", |t| t.shards[1].sealed.bytes = 1 << 40),
        ("the reward", |t| t.reward.0 -= 1),
        ("the bond", |t| t.bond.0 -= 1),
    ];
    for (expected, change) in ranges {
        match f.publishable(change) {
            Err(PublishError::Range { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let too_many = f.publishable(|t| t.shards = vec![t.shards[0]; 1 + spec.caps.rounds as usize]);
    assert!(matches!(too_many, Err(PublishError::Range { what: "the number of rounds", got: 257, .. })));
    let baseline = crate::types::BlobRef { root: f.task, bytes: u64::from(spec.caps.artefact_bytes) + 1 };
    let baseline = f.publishable(|t| t.baseline = Some(baseline));
    assert!(matches!(baseline, Err(PublishError::Range { what: "the bytes of the baseline", .. })));
    let overflow = f.publishable(|t| (t.reward, t.bond) = (Amount(u64::MAX / 2), Amount(u64::MAX / 2)));
    assert_eq!(overflow, Err(PublishError::Overflow));
}

#[test]
fn rounds_share_neither_key_nor_shard() {
    let mut f = fixture();
    let shared = Err(PublishError::SharedShard { round: 3 });
    assert_eq!(f.publishable(|t| t.shards[2].key_hash = t.shards[0].key_hash), shared);
    assert_eq!(f.publishable(|t| t.shards[2].sealed.root = t.shards[1].sealed.root), shared);
    assert_eq!(f.publishable(|t| t.shards[2].plain_root = t.shards[0].plain_root), shared);
}
