//! RocksDB storage of a podl node.
