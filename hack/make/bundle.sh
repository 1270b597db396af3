#!/usr/bin/env bash
# bundle.sh OPERATOR-SDK KUSTOMIZE DIR VERSION PREVIOUS OPERATOR-IMAGE RUNTIME-IMAGE CHANNELS DEFAULT-CHANNEL DIGESTS
#
# Writes the bundle into DIR and the Dockerfile of its image, DIR.Dockerfile, beside it, and validates it; a warning of a validator is a failure. PREVIOUS is
# the version that this one replaces, empty for a first one; DIGESTS is yes to name images by digest, for which they have to be in
# their registry.
set -euo pipefail
sdk=$1 kustomize=$2 dir=$3 version=$4 previous=$5 operator=$6 runtime=$7 channels=$8 default_channel=$9 digests=${10}
csv=$dir/manifests/vmcp-operator.clusterserviceversion.yaml

# The overlay must stand inside the repository: a kustomization refers to others by relative paths.
mkdir -p dist "$dir"
work=$(mktemp -d dist/bundle.XXXXXX)
trap 'rm -rf "$work"' EXIT
[ ! -f "$csv" ] || cp "$csv" "$work/before.yaml"

"$sdk" generate kustomize manifests --interactive=false --quiet

# What follows from the version and the images. Any older version may be updated straight to this one.
cp config/manifests/image_fields.yaml "$work/"
{
	cat <<-EOF
		resources: [../../config/manifests]
		configurations: [image_fields.yaml]
		images:
		- {name: ghcr.io/vmcp-dev/vmcp-operator, newName: "${operator%:*}", newTag: "${operator##*:}"}
		- {name: ghcr.io/vmcp-dev/vmcp-runtime, newName: "${runtime%:*}", newTag: "${runtime##*:}"}
		- {name: ghcr.io/vmcp-dev/vmcp-scorecard-tests, newName: "${operator%/*}/vmcp-scorecard-tests", newTag: "v$version"}
		patches:
		- target: {kind: ClusterServiceVersion}
		  patch: |
		    - {op: add, path: /metadata/annotations/olm.skipRange, value: "<$version"}
	EOF
	if [ -n "$previous" ]; then
		echo "    - {op: add, path: /spec/replaces, value: vmcp-operator.v$previous}"
	fi
	# Where nothing but mirrors can be reached, images have to be named by digest.
	if [ "$digests" = yes ]; then
		echo '    - {op: add, path: /metadata/annotations/features.operators.openshift.io~1disconnected, value: "true"}'
	fi
} >"$work/kustomization.yaml"

flags=(--quiet --overwrite --version "$version" --channels "$channels" --default-channel "$default_channel")
[ "$digests" != yes ] || flags+=(--use-image-digests)
rm -rf "$dir/manifests"
if [ "$dir" = bundle ]; then
	"$kustomize" build "$work" | "$sdk" generate bundle "${flags[@]}"
else
	# The Dockerfile of any bundle is written to the same place.
	cp bundle.Dockerfile "$work/"
	"$kustomize" build "$work" | "$sdk" generate bundle --output-dir "$dir" "${flags[@]}"
	mv bundle.Dockerfile "$dir.Dockerfile"
	mv "$work/bundle.Dockerfile" .
fi

# Each run stamps its own time; it stays as it was while nothing else in the file changes.
if [ -f "$work/before.yaml" ] && diff -q -I '^    createdAt: ' "$work/before.yaml" "$csv" >/dev/null; then
	cp "$work/before.yaml" "$csv"
fi

# All validators but the one for several architectures, which asks the registry for the images. Each makes its own report.
failed=0
for validators in suite=operatorframework name=community; do
	report=$("$sdk" bundle validate "$dir" --output json-alpha1 --select-optional "$validators" 2>/dev/null) || failed=1
	if [ "$failed" = 1 ] || grep -qE '"type": "(warning|error)"' <<<"$report"; then
		printf '%s\n' "$report" >&2
		failed=1
	fi
done
exit "$failed"
