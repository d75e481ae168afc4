//! How an attacker's peer behaves when others speak to it.

use std::sync::{Arc, Mutex, PoisonError};

use podl_engine::sync::Status;
use podl_engine::wire::{Gossip, SyncRequest, SyncResponse};

/// What is answered to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This.
    Say(Box<SyncResponse>),
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// Nothing, and the line stays open.
    Hold,
    /// Nothing, at once.
    Refuse,
}

impl Answer {
    pub(crate) fn say(response: SyncResponse) -> Self {
        Self::Say(Box::new(response))
    }
}

/// A peer's behaviour. By itself it refuses every request and is silent.
pub(crate) trait Conduct: Send + Sync + 'static {
    /// What it answers.
    fn answer(&self, _: &SyncRequest) -> Answer {
        Answer::Refuse
    }

    /// What it sends at once when it hears something.
    fn hear(&self, _: &Gossip) -> Vec<Gossip> {
        Vec::new()
    }
}

/// Refuses and is silent.
#[derive(Debug)]
pub(crate) struct Bystander;

impl Conduct for Bystander {}

/// Never answers.
#[derive(Debug)]
pub(crate) struct Mute;

impl Conduct for Mute {
    fn answer(&self, _: &SyncRequest) -> Answer {
        Answer::Hold
    }
}

/// A status that the attack keeps up to date, shared by its peers.
#[derive(Clone, Debug)]
pub(crate) struct Claim(Arc<Mutex<Status>>);

impl Claim {
    pub(crate) fn new(status: Status) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    pub(crate) fn get(&self) -> Status {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    pub(crate) fn answer(&self) -> Answer {
        Answer::say(SyncResponse::Status(self.get()))
    }
}
