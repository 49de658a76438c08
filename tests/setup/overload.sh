#!/usr/bin/env bash
# Ten times the callers that a release build takes on, for a minute on each database: what `make overload` does.
#
#   tests/setup/overload.sh <binary>
#
# Service and database run on core 0, the callers on core 1, or it would be measured how these wait for each other. A
# PostgreSQL cluster of its own is started and stopped; it writes through to the disk, as a production server does.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "$1")

# Where the kernel gives each session a share of its own, a connection of PostgreSQL weighs as much as the whole service.
if [ "$(cat /proc/sys/kernel/sched_autogroup_enabled 2>/dev/null || echo 0)" = 1 ]; then
    echo 'NOISY: kernel.sched_autogroup_enabled is 1, so latencies beside a crowd say little' >&2
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/campanile" <<WRAPPER
#!/usr/bin/env bash
exec taskset -c 0 "$binary" "\$@"
WRAPPER
chmod +x "$folder/campanile"

started=$(CAMPANILE_TEST_POSTGRES_FSYNC=on taskset -c 0 tests/setup/postgres.sh start)
trap 'tests/setup/postgres.sh stop "${started%% *}"; rm -rf "$folder"' EXIT
cargo test --locked --test it --no-run
CAMPANILE_TEST_POSTGRES_URL=${started#* } CAMPANILE_TEST_REQUIRE_POSTGRES=1 CAMPANILE_TEST_OVERLOAD=1 \
    CAMPANILE_TEST_BINARY="$folder/campanile" \
    taskset -c 1 cargo test --locked --test it -- overload::ten_times --test-threads 1 --nocapture
