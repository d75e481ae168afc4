//! Networks over real loopback sockets: one program, because linking libp2p takes longer than the tests.

mod blobs;
mod common;
mod connect;
mod gossip;
mod hostile;
mod requests;
