#!/usr/bin/env bash
# Runs what `make run` does with the release build under valgrind, and fails on any invalid read, write or free.
#
#   tests/setup/memcheck.sh <binary>
#
# Our code holds no `unsafe`; this looks for what the optimizer or a library may do to it. Installs Debian's package where
# valgrind is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "$1")

if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" -eq 0 ]; then
        apt-get update -q && apt-get install -q -y --no-install-recommends valgrind
    else
        sudo -n apt-get update -q && sudo -n apt-get install -q -y --no-install-recommends valgrind
    fi >&2
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/campanile" <<WRAPPER
#!/usr/bin/env bash
exec valgrind --quiet --error-exitcode=99 --log-file="$folder/%p.log" "$binary" "\$@"
WRAPPER
chmod +x "$folder/campanile"

code=0
node "$here/demo.mjs" "$folder/campanile" || code=$?
if [ -n "$(cat "$folder"/*.log)" ]; then
    cat "$folder"/*.log
    code=1
fi
if [ "$code" -eq 0 ]; then
    echo "memcheck: 1 passed, 0 failed"
fi
exit "$code"
