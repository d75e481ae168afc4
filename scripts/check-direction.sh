#!/usr/bin/env bash
# Fails when a crate reaches something that its layer must not know (docs/architecture.md).
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
# reaches CRATE NAME...: no NAME may be among the normal dependencies of CRATE.
must_not_reach() {
    local crate=$1 tree name
    shift
    tree=$(cargo tree --locked -e no-dev,no-build -p "$crate" --prefix none --format '{p}' | awk '{print $1}' | sort -u)
    for name in "$@"; do
        if grep -qx "$name" <<<"$tree"; then
            echo "direction: $crate must not depend on $name" >&2
            bad=1
        fi
    done
}

upper="podl-pool podl-storage podl-network podl-engine podl-mempool podl-rpc podl-testnet podl-attacker podl-node"
heavy="tokio libp2p rocksdb candle-core candle-nn"
must_not_reach podl-chain-spec podl-consensus podl-nas $upper $heavy
must_not_reach podl-consensus podl-nas $upper $heavy
must_not_reach podl-nas $upper tokio libp2p rocksdb
must_not_reach podl-pool podl-storage podl-network podl-engine podl-mempool podl-rpc podl-testnet podl-node libp2p rocksdb
must_not_reach podl-engine podl-nas podl-network podl-storage $heavy
must_not_reach podl-mempool podl-nas podl-network podl-storage $heavy
must_not_reach podl-storage podl-nas podl-network podl-pool tokio libp2p candle-core
must_not_reach podl-network podl-consensus podl-nas podl-pool podl-storage rocksdb candle-core
must_not_reach podl-rpc podl-nas podl-network podl-storage podl-pool rocksdb libp2p candle-core
must_not_reach podl-testnet podl-network podl-storage podl-attacker podl-node rocksdb libp2p
must_not_reach podl-attacker podl-storage podl-mempool podl-node rocksdb
[ "$bad" -eq 0 ] && echo "direction: every crate keeps to its layer"
exit "$bad"
