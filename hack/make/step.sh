#!/usr/bin/env bash
# step.sh NAME COMMAND [ARG...]: runs one step of the build, says which it is and how long it took, and passes its exit
# status on.
set -u
name=$1
shift
printf '==> %s\n' "$name"
start=${EPOCHREALTIME/[.,]/}
"$@"
status=$?
elapsed=$((${EPOCHREALTIME/[.,]/} - start))
if [ "$status" -eq 0 ]; then word=done; else word="FAILED with status $status"; fi
printf '    %s: %s in %d.%d s\n' "$name" "$word" $((elapsed / 1000000)) $((elapsed / 100000 % 10))
exit "$status"
