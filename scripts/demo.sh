#!/bin/sh
# Installs what it needs, and reads an invented account from the bundled Pancake server with
# `meltano run tap-pancake target-jsonl`. Then it prints the number of rows, builds the models of
# transform/ into output/demo.duckdb, writes output/report.html, and answers two questions from the
# models. PYTHON chooses the Python.
#
# A second run continues from Meltano's state. `rm -r .meltano output/demo` removes it.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group demo
# In its own environment: fifty packages that nothing else here needs.
install .venv-transform --group transform

# The settings of other projects are not for the invented account.
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

# The environments of the two plugins, unless they exist. Meltano installs with uv by default, which
# is fast but ignores pip's settings for certificates and mirrors. If uv fails, pip is used.
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

# The user token of the invented account. The rate limit is the same as Pancake's.
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
# The end of the two weeks that the invented account covers.
as_of=2026-11-15T00:00:00Z
.venv-transform/bin/python -m scripts.build output/demo output/demo.duckdb \
    --vars "{\"pancake__as_of\": \"$as_of\"}"
.venv/bin/python -m scripts.report output/demo.duckdb output/report.html
.venv/bin/python -m scripts.recipes output/demo.duckdb "Response time by week" "New customers by ad"
echo
echo "More questions, and their SQL: docs/recipes.md"
