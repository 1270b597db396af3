#!/usr/bin/env bash
# catalog.sh OPM DIR TEMPLATE IMAGE BUNDLE...: writes a file-based catalog into DIR/vmcp-operator and validates it: package and channels
# from TEMPLATE, and one file for the bundle in each of the folders BUNDLE. Files of other versions stay as they are. IMAGE is what the
# images of these bundles are called, with {{.Version}} for their version; the images need not be anywhere yet.
set -euo pipefail
opm=$1 dir=$2/vmcp-operator template=$3 image=$4
shift 4

# opm says what it does on standard error, also where nothing is wrong.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
	"$opm" "$@" 2>"$log" || { cat "$log" >&2; return 1; }
}

mkdir -p "$dir"
run alpha render-template basic "$template" -o yaml >"$dir/catalog.yaml"
for bundle in "$@"; do
	version=$(sed -n 's/^  version: //p' "$bundle/manifests/vmcp-operator.clusterserviceversion.yaml")
	run render "$bundle" --alpha-image-ref-template "$image" --migrate-level bundle-object-to-csv-metadata -o yaml >"$dir/v$version.yaml"
done
run validate "$dir"
