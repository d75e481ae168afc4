//! libp2p network of a podl node.
