#!/usr/bin/env bash
# Run the seeded simulations with SEEDS seeds each: the tests that read SEEDS or
# OCFUSE_SIM_SEEDS (their default is a few hundred). A failure prints its seed.
set -euo pipefail
cd "$(dirname "$0")/.."
export SEEDS=${SEEDS:-2000} OCFUSE_SIM_SEEDS=${SEEDS:-2000}
unset SEED
count=0
for file in $(git ls-files '*_test.go' | xargs grep -lE '"(OCFUSE_SIM_)?SEEDS"' || true); do
	# The tests of the file whose body, up to the closing brace, reads SEEDS.
	tests=$(awk '/^func Test/ { name = $2; sub(/\(.*/, "", name) } /"(OCFUSE_SIM_)?SEEDS"/ && name { print name } /^}/ { name = "" }' "$file" | sort -u | paste -sd '|')
	[ -n "$tests" ] || continue
	echo "== ./$(dirname "$file") $tests, $SEEDS seeds"
	go test -count=1 -timeout 60m -run "^($tests)\$" -v "./$(dirname "$file")" | grep -v '^=== '
	count=$((count + 1))
done
[ "$count" -gt 0 ] || { echo "sim: no test reads SEEDS" >&2; exit 1; }
