//! The podl node: command line, service wiring, adapters.
