#!/usr/bin/env bash
# A pool of nine real miners (five strong, four at a tenth) beside one strong miner alone: two networks of real processes
# at the same time on this machine, every miner with a budget of multiply-accumulates a second. Both work on the same data
# (other data, or the same cut otherwise, in each round); what counts is how much time in training phases each needs for a
# model of a target accuracy on images that miners do not see.
#
#   scripts/pool-vs-one.sh     ROUNDS=10 BUDGET=2000000000 TRAIN_S=240 TARGETS=.80,.90,.95,.99 OUT=FOLDER PODL=target/release/podl
#     FIRST=1 numbers the rounds, LAYERS=6 and LUT=100000 bound the networks. Filler data, one phase a round; with
#     DATASET=cifar10:DIR or another data set, which takes three blocks to be published, BLOCKS=10 of its task, with
#     VALIDATION=N training images held back.
#
# Limits: all processes share this machine's processors, so 6.4 budgets must fit them well, other work included; the last
# line says what part of its budget the strong miners trained. Managers check and replay beside their miners.
set -euo pipefail

PODL="${PODL:-${CARGO_TARGET_DIR:-target}/release/podl}"
ROUNDS="${ROUNDS:-10}"
FIRST="${FIRST:-1}"
BUDGET="${BUDGET:-2000000000}"
TRAIN_S="${TRAIN_S:-240}"
TARGETS="${TARGETS:-.80,.90,.95,.99}"
DATASET="${DATASET:-none}"
BLOCKS="${BLOCKS:-10}"
VALIDATION="${VALIDATION:-}"
LAYERS="${LAYERS:-6}"
LUT="${LUT:-100000}"
OUT="${OUT:-$(mktemp -d)}"
if [ "$DATASET" = none ]; then
    BLOCKS=1
    what=(--blocks 1 --dataset none)
else
    what=(--blocks $((BLOCKS + 3)) --rounds "$BLOCKS" --dataset "$DATASET" ${VALIDATION:+--validation-images "$VALIDATION"})
fi
weak=$((BUDGET / 10))
strong_and_weak="$BUDGET,$BUDGET,$BUDGET,$BUDGET,$BUDGET,$weak,$weak,$weak,$weak"

# From scratch, as the targets of the study are meant: a pool would begin with networks that are known to learn fast.
export PODL_POOL_STARTING_POINTS="${PODL_POOL_STARTING_POINTS:-false}"

run() { # run FOLDER MINERS BUDGETS SPECIFICATION
    "$PODL" testnet up --nodes 4 --miners "$2" --budgets "$3" --chain "$4" "${what[@]}" --json --data-dir "$1" \
        >"$1.jsonl" 2>"$1.err"
}

# Seconds in training phases of the task until each target, "-" where it was not reached, from a manager's log.
times() {
    awk -v targets="$TARGETS" -v filler="$([ "$DATASET" = none ] && echo 1 || echo 0)" -v most="$TRAIN_S" '
        function seconds(stamp) { split(substr(stamp, 12, 15), t, ":"); return t[1] * 3600 + t[2] * 60 + t[3] }
        function since(start,   now) { now = seconds($1) - start; return now < 0 ? now + 86400 : now }
        / phase height=/ {
            # A node that is behind goes from one phase to a later one.
            if (counts) { gone = since(start); before += gone < most ? gone : most; counts = 0; if (filler) exit }
            if (/phase=Train/) { counts = filler == /task="filler"/; start = seconds($1) }
        }
        counts && /best of the pool/ {
            match($0, /count=[0-9]+/); count = substr($0, RSTART + 6, RLENGTH - 6) + 0
            match($0, /images=[0-9]+/); images = substr($0, RSTART + 7, RLENGTH - 7)
            for (i = split(targets, goal, ","); i > 0; i--)
                if (!(i in at) && count >= goal[i] * images) at[i] = before + since(start)
        }
        END { n = split(targets, goal, ","); for (i = 1; i <= n; i++) printf " %s", (i in at) ? sprintf("%.1f", at[i]) : "-" }
    ' "$1/node-0.log"
}

echo "networks and logs in $OUT"
: >"$OUT/times"
for round in $(seq "$FIRST" $((FIRST + ROUNDS - 1))); do
    spec="$OUT/round-$round.toml"
    # Other words in the first block make another chain, and so other data.
    sed -e "s/^name = .*/name = \"testnet-race\"/" -e "s/^train_ms = .*/train_ms = ${TRAIN_S}000/" \
        -e "s/^message = .*/message = \"race $round\"/" -e "s/^conv_layers = 6/conv_layers = $LAYERS/" \
        -e "s/^lut = .*/lut = $LUT/" \
        "$(dirname "$0")/../chain-spec/specs/testnet.toml" >"$spec"
    run "$OUT/pool-$round" 9 "$strong_and_weak" "$spec" &
    pool=$!
    # Both look for free ports, and would find the same ones at the same moment.
    sleep 5
    run "$OUT/one-$round" 1 "$BUDGET" "$spec" &
    one=$!
    wait "$pool" && wait "$one"
    speed="$(grep -oh '"speed_macs_s":[0-9]*' "$OUT/pool-$round"/miner-[0-4].log | tail -n 1 | cut -d: -f2)"
    echo "$round$(times "$OUT/pool-$round")$(times "$OUT/one-$round") $speed" | tee -a "$OUT/times"
done

awk -v targets="$TARGETS" -v budget="$BUDGET" -v limit="$((TRAIN_S * BLOCKS))" '
    function sort(values, n,   gap, i, j, v) {
        for (gap = int(n / 2); gap > 0; gap = int(gap / 2))
            for (i = gap + 1; i <= n; i++) {
                v = values[i]
                for (j = i - gap; j > 0 && values[j] > v; j -= gap) values[j + gap] = values[j]
                values[j + gap] = v
            }
    }
    function median(values, n) { sort(values, n); return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2 }
    # 95 % interval of the ratio of means over pairs drawn anew, each pair whole.
    function interval(p, o, n,   b, i, r, sums, drawn) {
        for (b = 1; b <= 2000; b++) {
            sums["p"] = sums["o"] = 0
            for (i = 1; i <= n; i++) { r = int(rand() * n) + 1; sums["p"] += p[r]; sums["o"] += o[r] }
            drawn[b] = sums["o"] / sums["p"]
        }
        sort(drawn, 2000)
        return sprintf("(%.2f, %.2f)", drawn[51], drawn[1950])
    }
    { for (i = 2; i < NF; i++) cell[NR, i] = $i; rate[NR] = $NF / budget }
    END {
        srand(1)
        n = split(targets, goal, ",")
        print "target  reached by pool, one   mean seconds of pool, one   ratio of means (95 % interval)   median of ratios"
        for (i = 1; i <= n; i++) {
            pools = ones = a = b = 0
            for (r = 1; r <= NR; r++) {
                p = cell[r, i + 1]; o = cell[r, i + n + 1]
                if (p != "-") pools++; else p = limit
                if (o != "-") ones++; else o = limit
                # Times come in tenths of a second, and none must be divided by 0.
                pool[r] = p > .1 ? p : .1; one[r] = o + 0
                a += pool[r]; b += one[r]; ratios[r] = one[r] / pool[r]
            }
            printf "%-6s  %d, %d of %d   %.1f, %.1f   %.2f %s   %.2f\n", goal[i], pools, ones, NR, a / NR, b / NR, b / a, \
                interval(pool, one, NR), median(ratios, NR)
        }
        printf "strong miners of the pool trained at %.2f of their budgets (median)\n", median(rate, NR)
    }' "$OUT/times"
