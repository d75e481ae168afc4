//! Mempool of a podl node as a pure state machine.
