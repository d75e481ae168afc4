#!/usr/bin/env bash
# A pool of nine real miners (five strong, four at a tenth) and one strong miner alone, each with the same kind of budget
# of multiply-accumulates a second, on real networks of processes on this machine, in turn.
#
#   scripts/pool-vs-one.sh            BLOCKS=6 ROUNDS=2 BUDGET=3000000000 CHAIN=testnet DATASET=builtin PODL=target/release/podl
#
# Limits: all processes share this machine's processors, so budgets must be small enough for all nine to be kept; the
# pool's manager, who checks and replays, runs beside them as it does beside the lone miner.
set -euo pipefail

PODL="${PODL:-${CARGO_TARGET_DIR:-target}/release/podl}"
BLOCKS="${BLOCKS:-6}"
ROUNDS="${ROUNDS:-2}"
BUDGET="${BUDGET:-3000000000}"
CHAIN="${CHAIN:-testnet}"
DATASET="${DATASET:-builtin}"
weak=$((BUDGET / 10))
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

run() { # run NAME MINERS BUDGETS
    "$PODL" testnet up --nodes 4 --miners "$2" --budgets "$3" --blocks "$BLOCKS" --chain "$CHAIN" --dataset "$DATASET" \
        --rounds "$BLOCKS" --json >"$folder/$1.jsonl"
}

for round in $(seq "$ROUNDS"); do
    run "pool-$round" 9 "$BUDGET,$BUDGET,$BUDGET,$BUDGET,$BUDGET,$weak,$weak,$weak,$weak"
    run "one-$round" 1 "$BUDGET"
    for who in pool one; do
        awk -v who="$who" -v round="$round" 'match($0, /"score":[0-9.]+/) {
            score = substr($0, RSTART + 8, RLENGTH - 8); n++; sum += score; text = text " " score
        } END { printf "round %d  %-4s  %d scored blocks, mean accuracy %.4f  (%s )\n", round, who, n, n ? sum / n : 0, text }' \
            "$folder/$who-$round.jsonl"
    done
done
