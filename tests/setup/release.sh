#!/usr/bin/env bash
# Proves that a release build knows nothing of what tests do to a debug build: neither the points where that dies, nor the
# ways to break its ledger, nor the variables that ask for either. The debug build beside it has to know all of them, or
# this looks for the wrong words.
#
#   tests/setup/release.sh <release binary> <debug binary>
set -euo pipefail
cd "$(dirname "$0")/../.."

release=$1 debug=$2
# Words of a single part, such as "stopped", are words of other things as well.
mapfile -t words < <(sed -n 's/.* = "\([a-z]*_[a-z_]*\)",$/\1/p; s/.*=> "\([a-z]*_[a-z_]*\)",$/\1/p' src/failpoint.rs)
[ "${#words[@]}" -ge 20 ] || { echo "release.sh: src/failpoint.rs names only ${#words[@]} words" >&2; exit 1; }
words+=(CAMPANILE_TEST_FAILPOINTS CAMPANILE_TEST_BROKEN)

wrong=0
for word in "${words[@]}"; do
    if grep -qaF "$word" "$release"; then
        echo "release.sh: $release knows $word" >&2
        wrong=1
    fi
    if ! grep -qaF "$word" "$debug"; then
        echo "release.sh: $debug does not know $word" >&2
        wrong=1
    fi
done
[ "$wrong" -eq 0 ] && echo "$release knows none of the ${#words[@]} words of failpoints, $debug all"
exit "$wrong"
