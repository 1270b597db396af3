#!/usr/bin/env bash
# sbom.sh CYCLONEDX-GOMOD VERSION BINARY FILE: writes the modules that are linked into the binary, with their licences, as a CycloneDX
# document. The same binary gives the same document.
set -euo pipefail
tool=$1 version=$2 binary=$3 file=$4

# Licences are read from the modules that the build downloaded; the product's own is not among them, nor Go's.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
GOPROXY=off "$tool" bin -json -licenses -std -noserial -notimestamp -version "$version" -output "$file" "$binary" 2>"$log" || { cat "$log" >&2; exit 1; }
printf '%s: %d components\n' "$file" "$(grep -c '"type": "library"' "$file")"
