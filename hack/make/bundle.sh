#!/usr/bin/env bash
# bundle.sh OPERATOR-SDK KUSTOMIZE VERSION CHANNELS DEFAULT-CHANNEL: writes bundle/ and bundle.Dockerfile and validates them.
set -euo pipefail
sdk=$1 kustomize=$2 version=$3 channels=$4 default_channel=$5
csv=bundle/manifests/vmcp-operator.clusterserviceversion.yaml

previous=$(mktemp -d)
trap 'rm -rf "$previous"' EXIT
[ ! -f "$csv" ] || cp "$csv" "$previous/csv.yaml"

"$sdk" generate kustomize manifests --interactive=false --quiet
"$kustomize" build config/manifests |
	"$sdk" generate bundle --quiet --overwrite --version "$version" --channels "$channels" --default-channel "$default_channel"

# Each run stamps its own time; it stays as it was while nothing else in the file changes.
if [ -f "$previous/csv.yaml" ] && diff -q -I '^    createdAt: ' "$previous/csv.yaml" "$csv" >/dev/null; then
	cp "$previous/csv.yaml" "$csv"
fi
"$sdk" bundle validate ./bundle
