//! Bad candidates over the real validation path: the chain of the testkit with this crate's verifier, artefacts of real
//! networks, and generated images as sealed shards of a published task or as filler. Every candidate is a good one with
//! one thing changed and everything that commits to it made anew, and is refused with its own error and no other; its
//! good twin is taken.

mod artefacts;
mod bounds;
mod claims;
mod commitments;
mod rounds;
mod space;
mod world;
