#!/usr/bin/env bash
# text.sh: fails when a file holds text that belongs to one machine or to unfinished work, and names each place.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

failed=0
# forbid WHY REGEX [PATHSPEC...]: searches files that Git tracks or would track; this file holds the patterns themselves.
forbid() {
	local why=$1 regex=$2 found
	shift 2
	if found=$(git grep --untracked -nIE -e "$regex" -- "$@" ':!hack/verify/text.sh'); then
		printf '%s:\n%s\n' "$why" "$found" >&2
		failed=1
	fi
}

# A home of two letters, /home/me, stands for anybody's.
forbid 'a path of one machine' '(^|[^[:alnum:]_.}/-])/(root|work|home/[[:alnum:]_-]{3,}|Users/[[:alnum:]_-]+|tmp/scratch)/' .
forbid 'a folder beside the repository' '(^|[^[:alnum:]_.])([.][.]/)+shared(/|$)' .
forbid 'a module replaced by a folder of one machine' '=>[[:space:]]+/' '*go.mod'
forbid 'a proxy or checksum server of one site' '(GOPROXY|GOSUMDB)[[:space:]]*[:?]?=[[:space:]]*["'\'']?https?:' .
forbid 'a conflict marker' '^(<{7}|>{7}) ' .
forbid 'unfinished work' '(^|[^[:alnum:]_])(TODO|FIXME|XXX)([^[:alnum:]_]|$)' '*.go' '*.sh' '*.mk' '*.yaml' Makefile '*Dockerfile' ':!bundle'
forbid 'trailing blanks' '[[:blank:]]+$' '*.go' '*.sh' '*.mk' '*.yaml' '*.yml' '*.md' Makefile '*Dockerfile' ':!bundle' ':!config/crd/bases'
exit "$failed"
