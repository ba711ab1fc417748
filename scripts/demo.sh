#!/bin/sh
# Sets up everything, reads an invented account from the bundled Pancake server with
# `meltano run tap-pancake target-jsonl`, shows what arrived, builds the models of transform/ in
# output/pancake.duckdb, draws them in output/report.html, and answers two questions from them. PYTHON
# chooses a Python.
#
# Run it again and Meltano goes on from its own state. `rm -r .meltano output/demo` begins anew.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group demo
# Apart: fifty packages that nothing else here needs.
install .venv-transform --group transform

# Settings of other projects and pipelines are not for the invented account.
for name in $(env | sed -n 's/^\(TAP_PANCAKE_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
export MELTANO_SEND_ANONYMOUS_USAGE_STATS=false MELTANO_CLI_DISABLE_VERSION_CHECK=true
export MELTANO_ENVIRONMENT=demo MELTANO_CLI_LOG_FORMAT=uncolored
meltano() {
    # No .env, for the same reason.
    .venv/bin/meltano --env-file /dev/null "$@" </dev/null
}

scratch=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || :
        wait "$server" || :
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The environments of the two plugins, unless they are there already. Meltano's default is uv, which
# is quick, but does not know what pip was told about certificates and mirrors: so pip comes second.
plugins=$(cat pyproject.toml meltano.yml | cksum)
if [ "$(cat .meltano/demo-plugins 2>/dev/null)" != "$plugins" ]; then
    echo "Installing tap-pancake and target-jsonl for Meltano" >&2
    export UV_SYSTEM_CERTS=1
    meltano install tap-pancake target-jsonl >"$scratch/install.log" 2>&1 ||
        MELTANO_VENV_BACKEND=virtualenv meltano install --clean tap-pancake target-jsonl \
            >>"$scratch/install.log" 2>&1 || {
        cat "$scratch/install.log" >&2
        exit 1
    }
    echo "$plugins" >.meltano/demo-plugins
fi

# A user token of the invented account. The rate limit is Pancake's own.
token=invented-user-token
.venv/bin/python -m tests.pancake_api --port 0 --port-file "$scratch/url" --user-token "$token" \
    --start 2026-11-01 --end 2026-11-15 --pages 3 --conversations 40 --rate 5 >"$scratch/server.log" 2>&1 </dev/null &
server=$!
tries=0
until [ -s "$scratch/url" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "$0: the bundled server did not start:" >&2
        cat "$scratch/server.log" >&2
        exit 1
    fi
    sleep 0.1
done

TAP_PANCAKE_API_URL=$(cat "$scratch/url") TAP_PANCAKE_ACCESS_TOKEN=$token \
    meltano run tap-pancake target-jsonl

.venv/bin/python scripts/summary.py output/demo
# At the end of the fortnight that the invented account lived.
as_of=2026-11-15T00:00:00Z
.venv-transform/bin/python -m scripts.build output/demo output/pancake.duckdb \
    --vars "{\"pancake__as_of\": \"$as_of\"}"
.venv/bin/python -m scripts.report output/pancake.duckdb output/report.html
.venv/bin/python -m scripts.recipes output/pancake.duckdb "Response time by week" "New customers by ad"
echo
echo "More questions, and their SQL: docs/recipes.md"
