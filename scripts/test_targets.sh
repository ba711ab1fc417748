#!/bin/sh
# Installs the targets of docs/targets.md, and loads all streams into each of them. Not part of
# scripts/test.sh, as it takes minutes. PYTHON chooses the Python.
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
# With the newest DuckDB, which pip chooses by default.
install .venv-target-duckdb-alone 'target-duckdb>=0.8,<0.9'
install .venv-target-snowflake --group target-snowflake
exec .venv/bin/python -m pytest tests/all_targets.py "$@" </dev/null
