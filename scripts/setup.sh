#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine ready to build podl, or says plainly what is missing and where to get it.
# Installs only what is not there; needs root or sudo only when something is missing.
set -euo pipefail

least_rust="1.91.0"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

check_rust() {
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        fail "no Rust toolchain found; install $least_rust or newer from https://rustup.rs and run this again"
    local have
    have=$(rustc --version | awk '{print $2}' | sed 's/-.*//')
    if [ "$(printf '%s\n%s\n' "$least_rust" "$have" | sort -V | head -1)" != "$least_rust" ]; then
        fail "rustc is $have, podl needs $least_rust or newer; 'rustup update stable' brings it (https://rustup.rs)"
    fi
}

# RocksDB is C++ and its bindings are generated with libclang. libclang-cpp, which other packages bring, is another
# library.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    local file
    for file in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so* /usr/lib/*/libclang.so* /usr/lib/*/libclang-[0-9]*.so* /usr/lib/libclang.so*; do
        [ -e "$file" ] && return 0
    done
    return 1
}

install_packages() {
    local wanted=()
    command -v g++ >/dev/null || wanted+=(g++)
    has_libclang || wanted+=(libclang-dev)
    [ ${#wanted[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null ||
        fail "missing: ${wanted[*]} (Debian names); this is no Debian or Ubuntu, install them with your package manager"
    local run=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "missing: ${wanted[*]}; run 'apt-get install ${wanted[*]}' as root"
        run=(sudo)
    fi
    say "installing ${wanted[*]}"
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        say "warning: apt-get update failed, trying with the package lists that are here"
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null ||
        fail "could not install ${wanted[*]}; install them by hand and run this again"
}

check_disk() {
    local free_mib
    free_mib=$(df -Pm . | awk 'NR==2 {print $4}')
    [ "$free_mib" -ge 8192 ] || say "warning: only $free_mib MiB free here; a build takes about 6 GiB"
}

check_rust
install_packages
check_disk
