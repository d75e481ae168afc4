//! Blobs by root: a store on disk, and verified transfer from several peers at once.
//!
//! A blob's root is its plain BLAKE3 hash. Inside it every group of 16 KiB can be checked against the root by the hashes
//! on its path, so that a false byte is noticed and blamed when it arrives. Transfers move pieces of 256 KiB.

pub mod fetch;
mod geometry;
mod job;
mod partial;
pub(crate) mod protocol;
pub mod serve;
pub mod store;

#[cfg(test)]
mod tests;
