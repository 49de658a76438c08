#!/usr/bin/env bash
# Starts and stops a PostgreSQL cluster of its own for tests, in a temporary folder.
#
#   tests/setup/postgres.sh start         prints one line: <folder> <url>
#   tests/setup/postgres.sh stop <folder> stops that cluster by its process id and removes the folder
#   tests/setup/postgres.sh halt <folder> ends it as a crash would, with connections open and nothing written back
#   tests/setup/postgres.sh restart <folder>  the same where it runs, and starts it again on the same port
#
# Installs Debian's package where initdb is missing. Works as root, who must not run PostgreSQL (the package's user
# `postgres` does then), and as anybody else. The suite writes with fsync off, because it never cuts the power and waiting
# for the disk is most of its time; set CAMPANILE_TEST_POSTGRES_FSYNC=on for tests that kill the server.
set -euo pipefail

fail() {
    echo "postgres.sh: $*" >&2
    exit 1
}

as_owner() {
    if [ "$(id -u)" -eq 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        fail "initdb is missing and cannot be installed without root or sudo; install the package postgresql"
    fi
}

# Debian keeps the server's programs out of the path, one folder per version; the newest wins.
find_binaries() {
    if command -v pg_ctl >/dev/null && command -v initdb >/dev/null; then
        dirname "$(readlink -f "$(command -v initdb)")"
        return
    fi
    local found
    found=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$found" ]; then
        dirname "$found"
    fi
}

install_package() {
    {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql
    } >&2
}

free_port() {
    local port
    for _ in $(seq 50); do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no free port found on 127.0.0.1"
}

start() {
    local bin folder port fsync
    bin=$(find_binaries)
    if [ -z "$bin" ]; then
        install_package
        bin=$(find_binaries)
    fi
    [ -n "$bin" ] || fail "initdb was not found after installing the package postgresql"
    fsync=${CAMPANILE_TEST_POSTGRES_FSYNC:-off}

    folder=$(mktemp -d "${TMPDIR:-/tmp}/campanile-postgres.XXXXXX")
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres "$folder"
    fi
    cd "$folder"
    # A cluster whose default order is a language's, where the server can (from version 15): lists must not depend on it.
    local order=()
    if [[ "$("$bin/initdb" --help)" == *--icu-locale* ]]; then
        order=(--locale-provider=icu --icu-locale=en-US)
    fi
    as_owner "$bin/initdb" -D "$folder/data" -U campanile -A trust -E UTF8 --locale=C "${order[@]}" --no-sync \
        >"$folder/initdb.log" 2>&1 ||
        { cat "$folder/initdb.log" >&2; fail "initdb failed"; }
    # Another program may take the port between looking and listening; then the next one is tried.
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        if as_owner "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/server.log" -w -t 60 -o "-c listen_addresses=127.0.0.1 \
            -c port=$port -c unix_socket_directories= -c max_connections=400 -c fsync=$fsync -c synchronous_commit=$fsync \
            -c full_page_writes=$fsync -c shared_buffers=64MB -c autovacuum_naptime=10s" start >&2; then
            echo "$folder postgres://campanile@127.0.0.1:$port/postgres"
            return
        fi
    done
    cat "$folder/data/server.log" >&2
    fail "the server did not start"
}

stop() {
    local folder=$1 pid
    case "$(basename "$folder")" in
    campanile-postgres.*) ;;
    *) fail "$folder is not a folder that this script made" ;;
    esac
    if [ -f "$folder/data/postmaster.pid" ]; then
        pid=$(head -n 1 "$folder/data/postmaster.pid")
        # SIGINT: disconnect everybody and stop; SIGQUIT if that does not work within ten seconds.
        kill -INT "$pid" 2>/dev/null || true
        for step in $(seq 200); do
            kill -0 "$pid" 2>/dev/null || break
            [ "$step" -eq 100 ] && kill -QUIT "$pid" 2>/dev/null
            sleep 0.1
        done
    fi
    rm -rf -- "$folder"
}

crash() {
    local folder=$1 bin
    bin=$(find_binaries)
    cd "$folder"
    as_owner "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/server.log" -w -t 60 -m immediate "$2" >&2
}

case "${1:-}" in
start) start ;;
stop) stop "${2:?the folder that start printed}" ;;
halt) crash "${2:?the folder that start printed}" stop ;;
restart) crash "${2:?the folder that start printed}" restart ;;
*) fail "usage: postgres.sh start | stop <folder> | halt <folder> | restart <folder>" ;;
esac
