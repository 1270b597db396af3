#!/usr/bin/env bash
# tree.sh save DIR     remembers the working tree in DIR: every file that Git does not ignore, tracked or not, committed or not
# tree.sh compare DIR  fails, and names the files, when the working tree is no longer what it was at "save"
#
# The comparison is with the state before, not with HEAD, so that uncommitted work is no failure. Trees are written with an
# index and an object store of their own: the repository is only read.
set -euo pipefail

command=${1:?usage: tree.sh save|compare DIR}
dir=${2:?usage: tree.sh save|compare DIR}
cd "$(git rev-parse --show-toplevel)"

snapshot() {
	rm -f "$dir/index"
	git add --all .
	git write-tree
}

mkdir -p "$dir/objects"
objects=$(git rev-parse --path-format=absolute --git-path objects)
export GIT_INDEX_FILE=$dir/index GIT_OBJECT_DIRECTORY=$dir/objects GIT_ALTERNATE_OBJECT_DIRECTORIES=$objects

case $command in
save)
	snapshot >"$dir/saved"
	;;
compare)
	now=$(snapshot)
	git diff --exit-code --stat=120 "$(cat "$dir/saved")" "$now" || {
		echo "the files above changed during this run: what is generated was out of date; keep what it is now" >&2
		exit 1
	}
	;;
*)
	echo "tree.sh: unknown command \"$command\"" >&2
	exit 2
	;;
esac
