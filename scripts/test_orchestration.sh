#!/bin/sh
# Installs what it needs, and runs the DAG in orchestrate/ with a real Airflow, against the bundled
# server and a real PostgreSQL. Not part of scripts/test.sh, as it takes minutes. PYTHON chooses the
# Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
install .venv-airflow --group airflow
AIRFLOW="$PWD/.venv-airflow/bin" exec .venv/bin/python -m pytest tests/orchestration.py "$@" </dev/null
