#!/bin/sh
# Measures the tap beside its peers: installs all of them, runs the works that the arguments name (by
# default all), prints the tables and writes them into benchmarks/README.md. See `--help`. PYTHON
# chooses the Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh
# As on a user's machine, where Python keeps its compiled files.
unset PYTHONDONTWRITEBYTECODE

# One environment for each, so that the packages of one do not change another.
install .venv-bench-tap --editable .
for peer in stock dlt airbyte; do
    # By name instead of `-r FILE`, so that `install` sees when the file changes.
    install ".venv-bench-$peer" $(cat "benchmarks/peers/$peer.txt")
done
# For the bare script, and for the benchmark itself.
install .venv-bench $(cat benchmarks/peers/bare.txt)

exec .venv-bench/bin/python -m benchmarks.run "$@" </dev/null
