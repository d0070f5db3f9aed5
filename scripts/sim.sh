#!/usr/bin/env bash
# Run the seeded simulations: every test named TestSim*, with OCFUSE_SIM_SEEDS seeds
# (such a test reads it and has a small default). A failure prints its seed.
set -euo pipefail
cd "$(dirname "$0")/.."
export OCFUSE_SIM_SEEDS=${SEEDS:-200}
dirs=$(git ls-files '*_test.go' | xargs grep -l '^func TestSim' | xargs -r -n1 dirname | sort -u | sed 's|^|./|' || true)
[ -n "$dirs" ] || { echo "sim: no simulation (TestSim*) found" >&2; exit 1; }
# shellcheck disable=SC2086 # a list of folders
go test -count=1 -timeout 60m -run '^TestSim' -v $dirs
