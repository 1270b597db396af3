#!/usr/bin/env bash
# reproducible.sh: builds the images of HEAD twice, in clones of different paths with empty build caches, and compares what was built.
# Variables of make are passed on in the environment: RELEASE_PLATFORMS="linux-amd64", for example.
set -euo pipefail

work=$(mktemp -d)
# A module cache is read-only, and none is in here; what the clones built is.
trap 'rm -rf "$work"' EXIT
root=$(git rev-parse --show-toplevel)
if [ -n "$(git status --porcelain)" ]; then
	echo "the working tree differs from HEAD; what is built is HEAD"
fi
commit=$(git rev-parse HEAD)
git clone -q --no-hardlinks --no-checkout "$root" "$work/origin"
for clone in first second/in-a-longer-path; do
	git clone -q --no-hardlinks --no-checkout "$work/origin" "$work/$clone"
	git -C "$work/$clone" checkout -q --detach "$commit"
	GOCACHE="$work/cache/$clone" make -C "$work/$clone" release-images | tee "$work/log"
	# The digests of the indexes and of their images, and the bytes of the programs.
	(cd "$work/$clone" && sha256sum dist/release/*/bin/* dist/images/*.tar) >"$work/${clone%%/*}.sums"
	grep -o '[^ ]*sha256:[0-9a-f]*.*' "$work/log" | LC_ALL=C sort -u >>"$work/${clone%%/*}.sums"
	rm -rf "$work/cache"
done
diff "$work/first.sums" "$work/second.sums" || { echo "two builds of the same commit differ" >&2; exit 1; }
echo "two builds of $commit are the same:"
cat "$work/first.sums"
