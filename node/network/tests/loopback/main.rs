//! Networks over real loopback sockets: one program, because linking libp2p takes longer than the tests.

#![allow(clippy::print_stdout, reason = "figures for whoever runs these tests with --nocapture")]

mod blobs;
mod common;
mod connect;
mod gossip;
mod hostile;
mod requests;
