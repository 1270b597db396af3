#!/usr/bin/env bash
# installer.sh KUSTOMIZE OPERATOR-IMAGE RUNTIME-IMAGE FILE: renders config/default with these images into one file, through an
# overlay of its own, so that nothing in config/ is edited for it.
set -euo pipefail
kustomize=$1 operator=$2 runtime=$3 file=$4

# The overlay must stand inside the repository: a kustomization refers to others by relative paths.
overlay=$(mktemp -d "$(dirname "$file")/overlay.XXXXXX")
trap 'rm -rf "$overlay"' EXIT
cp config/default/image_fields.yaml "$overlay/"
cat >"$overlay/kustomization.yaml" <<EOF
resources: [../../config/default]
configurations: [image_fields.yaml]
images:
- {name: ghcr.io/vmcp-dev/vmcp-operator, newName: "${operator%:*}", newTag: "${operator##*:}"}
- {name: ghcr.io/vmcp-dev/vmcp-runtime, newName: "${runtime%:*}", newTag: "${runtime##*:}"}
EOF
"$kustomize" build "$overlay" -o "$file"
