#!/usr/bin/env bash
# Trains a few small networks, exports them, and runs them through the public QONNX package: every test image must get
# the class that podl's integer engine gives it. CIFAR10=DIR adds a network on CIFAR-10 (binary layout).
#
# Skipped, with a line that says so, only where Python or the package cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
podl=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/podl
requirements=$PWD/scripts/qonnx-requirements.txt
venv=${XDG_CACHE_HOME:-$HOME/.cache}/podl-qonnx/$(sha256sum <"$requirements" | cut -c1-16)

say() { printf 'test-export: %s\n' "$*"; }
skip() {
    say "skipped, $*"
    exit 0
}

# The folder is named by what is in it and gets its name when it is whole, so that a broken one is never used.
make_venv() {
    [ -x "$venv/bin/python" ] && [ -e "$venv/complete" ] && return 0
    command -v python3 >/dev/null || skip "there is no python3"
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    say "installing the public QONNX package into $venv"
    python3 -m venv "$venv" >"$work/venv.log" 2>&1 ||
        skip "python3 makes no virtual environment (Debian: apt-get install python3-venv): $(tail -1 "$work/venv.log")"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" >"$work/pip.log" 2>&1 ||
        skip "its packages cannot be installed: $(grep -i error "$work/pip.log" | tail -1)"
    touch "$venv/complete"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_venv

"$cargo" build --release --locked --workspace --bins
mkdir "$work/samples"
# The same targets as the unit tests have, so that nothing is built anew for it.
sample=export::tests::write_samples
if command -v cargo-nextest >/dev/null; then
    write=("$cargo" nextest run --release --locked --workspace --run-ignored only -E "test(=$sample)")
else
    write=("$cargo" test --quiet --release --locked --workspace --lib --bins --tests -- --ignored --exact "$sample")
fi
PODL_EXPORT_SAMPLES="$work/samples" "${write[@]}" >"$work/samples.log" 2>&1 || { cat "$work/samples.log" >&2; exit 1; }

# layer KERNEL FILTERS STRIDE POOL ACT WEIGHT
layer() {
    printf '{"kernel":[%s],"filters":%s,"stride":[%s],"pool":%s,"act":[%s],"weight":[%s]}' "$@"
}

models=()
# train_and_export NAME DATASET LAYER...
train_and_export() {
    local name=$1 dataset=$2 file=$work/$1
    shift 2
    local layers
    layers=$(IFS=,; echo "$*")
    "$podl" nas train "{\"layers\":[$layers]}" --dataset "$dataset" --epochs 1 --train 2560 --batch 64 --seed 1 \
        --out "$file.podlmodel" >"$file.trained"
    say "$name: $(head -1 "$file.trained")"
    "$podl" model eval "$file.podlmodel" --dataset "$dataset" --classes "$file.classes" --images "$file.images" >/dev/null
    "$podl" model export "$file.podlmodel" --format qonnx --dataset "$dataset" --out "$file.onnx" >/dev/null
    models+=("$file")
}

golden=$(layer 3,3 36 1,1 2 1,4 1,5)
train_and_export golden builtin "$golden" "$golden" "$golden" "$golden" "$golden" "$golden"
train_and_export strides-and-oblong-kernels builtin \
    "$(layer 3,5 12 1,2 2 2,4 2,5)" "$(layer 7,1 10 2,1 2 2,4 2,5)" "$(layer 1,4 8 2,3 1 2,3 1,6)"
# One-bit weights are never positive: only the first layer, whose inputs have signs, can do anything with them.
train_and_export one-bit-weights builtin \
    "$(layer 3,3 24 1,1 2 3,3 0,1)" "$(layer 3,3 24 2,2 1 3,3 2,4)" "$(layer 3,3 24 1,1 2 2,4 2,4)"
train_and_export no-integer-bits builtin \
    "$(layer 3,3 16 2,2 1 0,6 0,6)" "$(layer 5,3 16 1,1 2 0,5 0,7)" "$(layer 3,3 16 1,1 2 0,1 0,4)"
if [ -n "${CIFAR10:-}" ]; then
    train_and_export cifar10 "cifar10:$(realpath "$CIFAR10")" "$golden" "$golden" "$golden" "$golden" "$golden" "$golden"
fi

"$venv/bin/python" scripts/check_qonnx.py --samples "$work/samples" "${models[@]}"
