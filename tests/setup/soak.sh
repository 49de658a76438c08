#!/usr/bin/env bash
# Kills processes under load, and takes their database away, for long: what `make soak` does. CAMPANILE_TEST_KILLS says how
# often, per database; 200 unless told otherwise. A PostgreSQL cluster of its own is started, unless CAMPANILE_TEST_POSTGRES_URL
# names one, and stopped; it writes through to the disk, as a production server does. Campaigns that an earlier build has begun
# are finished by this one: CAMPANILE_TEST_PREVIOUS names that build, otherwise it is made of the commit before the last change of
# the schema. Ends with proof that a release build cannot be broken like this.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${CAMPANILE_TEST_POSTGRES_URL:-}" ]; then
    started=$(CAMPANILE_TEST_POSTGRES_FSYNC=on tests/setup/postgres.sh start)
    trap 'tests/setup/postgres.sh stop "${started%% *}"' EXIT
    export CAMPANILE_TEST_POSTGRES_URL=${started#* }
fi
export CAMPANILE_TEST_REQUIRE_POSTGRES=1

# An earlier build in a tree and a folder of its own, so that it is never taken for this one.
earlier_build() {
    local commit tree=.cache/earlier
    commit=$(git log -1 --format=%h -- migrations/src)~1
    git worktree remove --force "$tree/source" 2>/dev/null || true
    mkdir -p "$tree"
    git worktree add --quiet --detach "$tree/source" "$commit"
    CARGO_TARGET_DIR=$PWD/$tree/target cargo build --locked --manifest-path "$tree/source/Cargo.toml" --bin campanile
    cp "$tree/target/debug/campanile" "$tree/campanile"
    git worktree remove --force "$tree/source"
    echo "the earlier build is that of $(git log -1 --format='%h, %s' "$commit")"
}
if [ -z "${CAMPANILE_TEST_PREVIOUS:-}" ]; then
    earlier_build
    export CAMPANILE_TEST_PREVIOUS=$PWD/.cache/earlier/campanile
fi
export CAMPANILE_TEST_KILLS=${CAMPANILE_TEST_KILLS:-200}
cargo test --locked --test it -- crash:: --nocapture
CAMPANILE_TEST_SOAK=1 cargo test --locked --test it -- outage::
cargo build --locked
cargo build --locked --release
tests/setup/release.sh target/release/campanile target/debug/campanile
