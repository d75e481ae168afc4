//! Benchmarks of podl.
