#!/usr/bin/env bash
# Trains and scores the networks of benches/architectures with podl and with a PyTorch peer in turn, on the same files,
# and prints the medians of both and of their ratios.
#
#   CIFAR10=DIR       folder with data_batch_1.bin and test_batch.bin
#   PEER=FILE         the peer: pytorch_child.py ARCH DIR --epochs N --train N --test N --threads N --seed N
#   ROUNDS, THREADS   5 and 2
#   EPOCHS, IMAGES    2 and 3840, of each training; the speed is that of the faster epoch
#   NETWORKS          benches/architectures/*.json
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
podl=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/podl
data=${CIFAR10:-../shared/data/cifar10}
peer=${PEER:-../shared/peers/pytorch_child.py}
rounds=${ROUNDS:-5} threads=${THREADS:-2} epochs=${EPOCHS:-2} images=${IMAGES:-3840}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/podl-peer

fail() {
    printf 'bench-training: %s\n' "$*" >&2
    exit 1
}
[ -e "$data/data_batch_1.bin" ] || fail "no data_batch_1.bin in $data; CIFAR10=DIR names the folder ('podl dataset fetch cifar10' brings it)"
[ -e "$peer" ] || fail "there is no $peer; PEER=FILE names the PyTorch peer"
if ! "$venv/bin/python" -c 'import numpy, torch' 2>/dev/null; then
    command -v python3 >/dev/null || fail "there is no python3"
    printf 'bench-training: installing PyTorch into %s\n' "$venv"
    python3 -m venv "$venv" || fail "python3 makes no virtual environment (Debian: apt-get install python3-venv)"
    "$venv/bin/pip" install --quiet --disable-pip-version-check torch numpy || fail "PyTorch cannot be installed"
fi

"$cargo" build --release --locked --workspace --bins
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'The limit of one thread, in operations (two a multiply-add):\n'
"$cargo" bench --quiet --locked --workspace --bench kernels -- limit 2>/dev/null | grep -E 'multiply-adds|thrpt' || true

for arch in ${NETWORKS:-benches/architectures/*.json}; do
    name=$(basename "$arch" .json)
    for round in $(seq "$rounds"); do
        common=(--epochs "$epochs" --train "$images" --test 2500 --threads "$threads" --seed "$round")
        "$podl" nas train "$arch" --dataset "cifar10:$data" "${common[@]}" --batch 128 --json >>"$work/$name.ours" 2>/dev/null
        "$venv/bin/python" "$peer" "$arch" "$data" "${common[@]}" >>"$work/$name.theirs"
        printf '\r%s: %s of %s rounds' "$name" "$round" "$rounds" >&2
    done
    printf '\r\033[K' >&2
done
"$venv/bin/python" scripts/training_ratios.py "$work" "$threads"
