#!/usr/bin/env bash
# The tests of the code with `unsafe` in it, under valgrind's memory checker: no read or write outside an allocation, no
# decision by memory that was never written. valgrind knows AVX2 and FMA, but not AVX-512: with it, processors show less.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || {
    echo "memcheck: skipped, valgrind is not installed (Debian: apt-get install valgrind)"
    exit 0
}
# The same targets as the unit tests have, so that nothing is built anew for it.
binary=$("${CARGO:-cargo}" test --release --locked --workspace --lib --bins --tests --no-run 2>&1 |
    grep -o '[^ (]*deps/podl_nas-[0-9a-f]*' | head -1)
[ -x "$binary" ] || { echo "memcheck: the unit tests of podl-nas were not built" >&2; exit 1; }
valgrind --quiet --error-exitcode=9 "$binary" --test-threads 1 \
    train::kernels::gemm train::kernels::pool train::kernels::conv_tests::forward train::kernels::conv_tests::backward \
    engine::pack engine::tests::sums_beyond engine::tests::usual_layers
