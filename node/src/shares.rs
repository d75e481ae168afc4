//! Share lists of a pool between its books and RPC.

use podl_chain_spec::AccountId;
use podl_pool::ledger::{PayScheme, PayTerms, ProofStep, ShareList, ShareProof, ShareRow};
use podl_pool::types::MinerId;
use podl_rpc::types::{PayView, ShareListView, ShareProofView, ShareRowView};

/// A scheme as RPC shows it.
pub fn pay_view(scheme: PayScheme) -> PayView {
    match scheme {
        PayScheme::Pplns { window, finder_basis_points } => PayView::Pplns { window, finder_basis_points },
        PayScheme::Performance => PayView::Performance,
    }
}

fn pay_of(view: PayView) -> PayScheme {
    match view {
        PayView::Pplns { window, finder_basis_points } => PayScheme::Pplns { window, finder_basis_points },
        PayView::Performance => PayScheme::Performance,
    }
}

fn row_view(row: &ShareRow) -> ShareRowView {
    let ShareRow { miner, account, macs, points, bonus, amount } = *row;
    ShareRowView { miner: miner.0, account, macs, points, bonus, amount }
}

/// A row from RPC.
pub fn row_of(view: &ShareRowView) -> ShareRow {
    let ShareRowView { miner, account, macs, points, bonus, amount } = *view;
    ShareRow { miner: MinerId(miner), account, macs, points, bonus, amount }
}

/// A list as RPC shows it.
pub fn view(list: &ShareList) -> ShareListView {
    ShareListView {
        block: list.block,
        height: list.height,
        reward: list.reward,
        fee_basis_points: list.terms.fee_basis_points,
        pay: pay_view(list.terms.scheme),
        model: list.model,
        finder: list.finder.map(|miner| miner.0),
        fee: list.fee,
        shares_root: list.root(),
        rows: list.rows.iter().map(row_view).collect(),
    }
}

/// A list from RPC. Its root is what follows from it, not what the sender says.
pub fn list_of(view: &ShareListView) -> ShareList {
    ShareList {
        block: view.block,
        height: view.height,
        reward: view.reward,
        terms: PayTerms { fee_basis_points: view.fee_basis_points, scheme: pay_of(view.pay) },
        model: view.model,
        finder: view.finder.map(MinerId),
        fee: view.fee,
        rows: view.rows.iter().map(row_of).collect(),
    }
}

/// An account's rows with their proofs.
pub fn proofs(list: &ShareList, account: &AccountId) -> Vec<ShareProofView> {
    let own = list.rows.iter().filter(|row| row.account == *account);
    let proven = own.filter_map(|row| list.proof(&row.miner));
    let step = |step: &ProofStep| (step.sibling, step.sibling_is_left);
    proven
        .map(|(row, proof)| ShareProofView { row: row_view(&row), steps: proof.steps.iter().map(step).collect() })
        .collect()
}

/// A proof from RPC.
pub fn proof_of(view: &ShareProofView) -> ShareProof {
    let step = |&(sibling, sibling_is_left): &_| ProofStep { sibling, sibling_is_left };
    ShareProof { steps: view.steps.iter().map(step).collect() }
}
