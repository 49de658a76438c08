#!/usr/bin/env bash
# Kills processes under load for long: what `make soak` does. CAMPANILE_TEST_KILLS says how often, per database; 200 unless
# told otherwise. A PostgreSQL cluster of its own is started, unless CAMPANILE_TEST_POSTGRES_URL names one, and stopped; it
# writes through to the disk, as a production server does. Ends with proof that a release build cannot be broken like this.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${CAMPANILE_TEST_POSTGRES_URL:-}" ]; then
    started=$(CAMPANILE_TEST_POSTGRES_FSYNC=on tests/setup/postgres.sh start)
    trap 'tests/setup/postgres.sh stop "${started%% *}"' EXIT
    export CAMPANILE_TEST_POSTGRES_URL=${started#* }
fi
export CAMPANILE_TEST_REQUIRE_POSTGRES=1
export CAMPANILE_TEST_KILLS=${CAMPANILE_TEST_KILLS:-200}
cargo test --locked --test it -- crash:: --nocapture
cargo build --locked
cargo build --locked --release
tests/setup/release.sh target/release/campanile target/debug/campanile
