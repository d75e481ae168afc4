//! Typed keys of the state and their byte form.

use podl_chain_spec::AccountId;

use crate::types::TaskId;

/// What a value of the state is about. The byte form is one tag byte and, where there is one, the 32-byte id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKey {
    /// [`super::Meta`].
    Meta,
    /// Sorted ids of the tasks that are pending, open or active.
    LiveTasks,
    /// [`super::Account`].
    Account(AccountId),
    /// [`super::TaskSpec`]: never changes, so the many bytes of a task are hashed once.
    TaskSpec(TaskId),
    /// [`super::TaskStatus`]: the few bytes of a task that change.
    TaskStatus(TaskId),
}

const META: u8 = 0;
const LIVE_TASKS: u8 = 1;
const ACCOUNT: u8 = 2;
const TASK_SPEC: u8 = 3;
const TASK_STATUS: u8 = 4;

impl StateKey {
    /// The bytes that name the value in stores and, hashed, in the tree.
    pub fn to_bytes(self) -> Vec<u8> {
        let (tag, id): (u8, &[u8]) = match &self {
            Self::Meta => (META, &[]),
            Self::LiveTasks => (LIVE_TASKS, &[]),
            Self::Account(id) => (ACCOUNT, id.as_bytes()),
            Self::TaskSpec(id) => (TASK_SPEC, id.as_bytes()),
            Self::TaskStatus(id) => (TASK_STATUS, id.as_bytes()),
        };
        let mut bytes = Vec::with_capacity(1 + id.len());
        bytes.push(tag);
        bytes.extend_from_slice(id);
        bytes
    }

    /// The key of these bytes, if they are one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (tag, id) = bytes.split_first()?;
        let id = || <[u8; 32]>::try_from(id).ok();
        match *tag {
            META if bytes.len() == 1 => Some(Self::Meta),
            LIVE_TASKS if bytes.len() == 1 => Some(Self::LiveTasks),
            ACCOUNT => id().map(|id| Self::Account(AccountId(id))),
            TASK_SPEC => id().map(|id| Self::TaskSpec(podl_chain_spec::Hash32(id))),
            TASK_STATUS => id().map(|id| Self::TaskStatus(podl_chain_spec::Hash32(id))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_other_bytes_are_refused() {
        let (account, hash) = (AccountId([3; 32]), podl_chain_spec::Hash32([4; 32]));
        let keys = [
            StateKey::Meta,
            StateKey::LiveTasks,
            StateKey::Account(account),
            StateKey::TaskSpec(hash),
            StateKey::TaskStatus(hash),
        ];
        for key in keys {
            assert_eq!(StateKey::parse(&key.to_bytes()), Some(key));
        }
        for bad in [&[][..], &[0, 0], &[1, 0], &[2; 32], &[2; 34], &[9]] {
            assert_eq!(StateKey::parse(bad), None);
        }
    }
}
