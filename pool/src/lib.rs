//! The mining pool: partition, leases, shares and pay as pure state machines.
