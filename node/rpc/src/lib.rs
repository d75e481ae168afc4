//! JSON-RPC types, server and client of a podl node.
