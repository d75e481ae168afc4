//! Simulator on virtual time, process networks and fault scenarios.
