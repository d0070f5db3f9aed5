#!/usr/bin/env bash
# Run every fuzz target of the module for FUZZTIME each, one after the other, and stop
# at the first that fails (go leaves the input in testdata/fuzz: commit it). FUZZTIME
# is a number of executions (10000x) rather than a time: at the end of a time go may
# report "context deadline exceeded" as a failure of a target that found nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-10000x}
count=0
dirs=$(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -r -n1 dirname | sort -u || true)
for dir in $dirs; do
	for target in $(go test -list '^Fuzz' "./$dir" | grep '^Fuzz'); do
		echo "== $dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1000x "./$dir"
		count=$((count + 1))
	done
done
[ "$count" -gt 0 ] || { echo "fuzz: no fuzz target found" >&2; exit 1; }
echo "$count fuzz targets, $time each"
