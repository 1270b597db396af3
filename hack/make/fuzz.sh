#!/usr/bin/env bash
# fuzz.sh TIME [REGEX]: fuzzes every target of this module whose name matches, one after the other, each for TIME, and fails if one
# of them does. What made a target fail is left in its package's testdata/fuzz, from where "go test" repeats it ever after.
set -euo pipefail
export CGO_ENABLED=0
fuzztime=$1 pattern=${2:-.}

# Only packages that have a target are compiled for the list.
mapfile -t folders < <(git grep -l --untracked -E '^func Fuzz[A-Z0-9_]' -- '*_test.go' | xargs -r -n1 dirname | sort -u)
if [ "${#folders[@]}" -eq 0 ]; then
	echo "no fuzz target in this module" >&2
	exit 1
fi

failed=() ran=0
for folder in "${folders[@]}"; do
	# A list that fails, for a package that does not compile, ends the script here.
	list=$(go test -trimpath -list '^Fuzz' "./$folder")
	for target in $(grep '^Fuzz' <<<"$list" | grep -E -- "$pattern" || true); do
		ran=$((ran + 1))
		printf '==> fuzz %s %s for %s\n' "$folder" "$target" "$fuzztime"
		# Making each interesting input smaller takes a minute by default, in which nothing is tried.
		go test -trimpath -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" -fuzzminimizetime 10x "./$folder" || failed+=("$folder $target")
	done
done
if [ "$ran" -eq 0 ]; then
	echo "no fuzz target matches $pattern" >&2
	exit 1
fi
printf '%d targets fuzzed, %d failed\n' "$ran" "${#failed[@]}"
[ "${#failed[@]}" -eq 0 ] || { printf '  %s\n' "${failed[@]}" >&2; exit 1; }
