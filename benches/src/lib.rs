//! Benchmarks of podl. docs/costs.md holds what they measured and how to measure it again.
