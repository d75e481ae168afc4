//! The workload: search space, FPGA cost, integer models, training and search.
