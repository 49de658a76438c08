#!/usr/bin/env bash
# Runs every check and test from a clean checkout: what `make test` does. Prints how long each part took and what the
# runners said last. A PostgreSQL cluster of its own is started, unless CAMPANILE_TEST_POSTGRES_URL names one, and stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."

report=$(mktemp)
cluster=""

finish() {
    local code=$?
    if [ -n "$cluster" ]; then
        tests/setup/postgres.sh stop "$cluster" || true
    fi
    echo
    echo "== time of each part"
    cat "$report"
    rm -f "$report"
    if [ "$code" -eq 0 ]; then
        echo "all parts passed in ${SECONDS} s"
    else
        echo "FAILED after ${SECONDS} s" >&2
    fi
    exit "$code"
}
trap finish EXIT

# part <name> <command…>: runs one part and notes its time, also when it fails.
part() {
    local name=$1 began=$SECONDS code=0
    shift
    echo
    echo "== $name"
    "$@" || code=$?
    printf '%6d s  %s%s\n' "$((SECONDS - began))" "$name" "$([ "$code" -eq 0 ] || echo '  FAILED')" >>"$report"
    return "$code"
}

start_postgres() {
    local started
    started=$(tests/setup/postgres.sh start)
    cluster=${started%% *}
    export CAMPANILE_TEST_POSTGRES_URL=${started#* }
}

# The printed commands are for curl.
curl_needed() {
    command -v curl >/dev/null || { as_root apt-get update -q && as_root apt-get install -q -y --no-install-recommends curl; } >&2
}

demo() {
    curl_needed
    node tests/setup/demo.mjs target/debug/campanile
}

walk() {
    curl_needed
    node tests/setup/walk.mjs target/debug/campanile
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

export CAMPANILE_TEST_REQUIRE_POSTGRES=1
export INSTA_UPDATE=no
# The same cases every time, so that a change is judged by what it changes; `make fuzz` looks for new ones.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20240115}

part "formatting" cargo fmt --all --check
part "contract" make --no-print-directory contract
part "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
part "build of the tests" cargo test --locked --workspace --no-run
if [ -z "${CAMPANILE_TEST_POSTGRES_URL:-}" ]; then
    part "PostgreSQL" start_postgres
fi
part "unit tests" cargo test --locked --workspace --lib --bins
part "behavior on SQLite and PostgreSQL" cargo test --locked --test it
part "make run and the commands it prints" demo
part "the README's commands that kill a server" walk
part "examples in the documentation" cargo test --locked --workspace --doc
