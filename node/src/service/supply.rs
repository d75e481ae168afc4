//! Recounting all money of the final state for those who ask.
//!
//! # Correctness
//! A recount reads every account, so it runs beside the core, on a snapshot: its sums and the height that it reports
//! belong to one block, whatever becomes final meanwhile. One runs at a time and its answer is kept, so that nobody can
//! keep the disk busy by asking.

use std::sync::Arc;

use podl_chain_spec::{Amount, ChainSpec};
use podl_consensus::codec;
use podl_consensus::state::{Meta, StateError, StateKey, SupplyAudit};
use podl_rpc::types::SupplyView;
use podl_storage::{Database, StorageError};
use tokio::sync::Mutex;

/// Why the money could not be recounted. The disk is to blame, or a bug of ours.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An entry is none.
    #[error(transparent)]
    State(#[from] StateError),
    /// The thread that counted is gone.
    #[error("the recount was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

/// Recounts on demand.
pub(super) struct SupplyAudits {
    db: Arc<Database>,
    genesis: Amount,
    last: Arc<Mutex<Option<SupplyView>>>,
}

impl SupplyAudits {
    pub(super) fn new(db: Arc<Database>, spec: &ChainSpec) -> Self {
        Self { db, genesis: spec.genesis_supply(), last: Arc::default() }
    }

    /// The recount of the last final state.
    pub(super) async fn latest(&self) -> Result<SupplyView, AuditError> {
        // The counting thread holds the lock, so that a caller who goes away does not let a second count begin.
        let mut last = self.last.clone().lock_owned().await;
        let (db, genesis) = (self.db.clone(), self.genesis);
        tokio::task::spawn_blocking(move || {
            let at = db.finalised()?;
            match last.filter(|view| view.block == at.block) {
                Some(view) => Ok(view),
                None => Ok(*last.insert(recount(&db, genesis)?)),
            }
        })
        .await?
    }
}

/// Sums every entry of the last final state.
fn recount(db: &Database, genesis: Amount) -> Result<SupplyView, AuditError> {
    let state = db.final_state()?;
    let key = StateKey::Meta.to_bytes();
    let corrupt = |reason: String| StateError::Corrupt { key: "meta".into(), reason };
    let bytes = state.value(&key)?.ok_or_else(|| corrupt("there is none".into()))?;
    let meta: Meta = codec::decode(&bytes, usize::MAX).map_err(|e| corrupt(e.to_string()))?;
    let mut audit = SupplyAudit::new(&meta);
    state.visit(|key, value| audit.add(key, value).map_err(AuditError::from))?;
    let view = SupplyView::new(state.at().block, &audit, genesis);
    if !view.adds_up {
        tracing::error!(height = view.height, ?audit, "the money of the final state does not add up");
    }
    Ok(view)
}

#[cfg(test)]
mod tests;
