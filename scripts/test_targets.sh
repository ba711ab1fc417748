#!/bin/sh
# Loads all streams into each target of docs/targets.md; sets up the targets first. Apart from
# scripts/test.sh, since it takes minutes. PYTHON chooses a Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
install .venv-target-jsonl target-jsonl
install .venv-target-csv --group target-csv
install .venv-target-postgres --group target-postgres
install .venv-pipelinewise-target-postgres --group pipelinewise-target-postgres
install .venv-pipelinewise-target-postgres --no-deps 'pipelinewise-target-postgres>=2.1,<2.2'
install .venv-target-duckdb --group target-duckdb
# With the newest DuckDB, as pip alone installs it.
install .venv-target-duckdb-alone 'target-duckdb>=0.8,<0.9'
install .venv-target-snowflake --group target-snowflake
exec .venv/bin/python -m pytest tests/all_targets.py "$@" </dev/null
