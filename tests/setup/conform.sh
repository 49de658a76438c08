#!/usr/bin/env bash
# Lets schemathesis call every operation of the OpenAPI document on a server of its own, in a temporary folder with SQLite:
# what `make conform` does. It fails on a server error, and on an answer whose status, headers or body the document does not
# promise. CAMPANILE_TEST_CONFORM_SECONDS bounds its time (default 180), CAMPANILE_TEST_CONFORM_SEED repeats a run.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${1:-target/debug/campanile}
seconds=${CAMPANILE_TEST_CONFORM_SECONDS:-180}
seed=${CAMPANILE_TEST_CONFORM_SEED:-$RANDOM}
tools=$PWD/.cache/conform
folder=$(mktemp -d)
server=""

finish() {
    local code=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
    exit "$code"
}
trap finish EXIT

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

if [ ! -x "$tools/bin/python" ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || {
        as_root apt-get update -q
        as_root apt-get install -q -y --no-install-recommends python3-venv
    } >&2
    python3 -m venv "$tools"
fi
"$tools/bin/pip" install -q --disable-pip-version-check --requirement tests/setup/conform.txt

export CAMPANILE_OPERATOR_KEY=operator-key-of-the-conformance-test-1
key=bootstrap-key-of-the-conformance-test
CAMPANILE_LISTEN=127.0.0.1:0 CAMPANILE_LOG_FORMAT=json CAMPANILE_RATE_LIMIT=0 CAMPANILE_RATE_LIMIT_CORE=0 \
    CAMPANILE_DATABASE_URL="sqlite://$folder/campanile.db" \
    CAMPANILE_BOOTSTRAP_APP=conform CAMPANILE_BOOTSTRAP_KEY=$key \
    "$(realpath "$binary")" serve 2>"$folder/log" &
server=$!
for _ in $(seq 100); do
    url=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$folder/log" | head -n 1)
    [ -z "$url" ] || break
    kill -0 "$server" || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done

cat >"$folder/schemathesis.toml" <<TOML
[auth.openapi.apikey]
api_key = "$key"

[auth.openapi.operatorkey]
api_key = "$CAMPANILE_OPERATOR_KEY"
TOML

echo "seed $seed, $seconds s, server at $url"
# It keeps notes where it runs.
cd "$folder"
"$tools/bin/schemathesis" --config-file "$folder/schemathesis.toml" --no-color run "$url/openapi.json" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
    --max-time "$seconds" --seed "$seed" --continue-on-failure --warnings off --suppress-health-check all \
    ${CAMPANILE_TEST_CONFORM_OPTIONS:-}

if grep -q '"level":"ERROR"' "$folder/log"; then
    echo "the server reported a fault of its own:" >&2
    grep '"level":"ERROR"' "$folder/log" | head >&2
    exit 1
fi
