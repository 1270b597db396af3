#!/usr/bin/env bash
# go-program.sh FILE ARG...: runs "go build ARG... -o FILE". Go sets the time of a program to now even where it was up to date;
# this sets an unchanged one's back, so that make builds nothing again that depends on it.
set -euo pipefail
file=$1
shift
# An absolute path, for -C among the arguments changes what a relative one means.
build=(go build "${@:1:$#-1}" -o "$PWD/$file" "${@: -1}")
if [ ! -f "$file" ]; then
	exec "${build[@]}"
fi
times=$(mktemp)
trap 'rm -f "$times"' EXIT
touch -r "$file" "$times"
before=$(sha256sum <"$file")
"${build[@]}"
if [ "$before" = "$(sha256sum <"$file")" ]; then
	touch -r "$times" "$file"
fi
