#!/usr/bin/env bash
# truth.sh SEED TIME BIN KWOK: starts a control plane of its own, beside any other cluster of this machine, finds out in it how truthful
# the status is (test/truth), and removes it. The last line is the result. TRUTH_OUT names a document that gets the tables, TRUTH_LOGS a
# folder for the logs.
set -euo pipefail
seed=$1 time=$2 bin=$3 kwok=$4

# The defaults keep clear of those of bin/cluster itself, and of make scale.
export VMCP_CLUSTER_STATE=${TRUTH_STATE:-/tmp/vmcp-operator-truth}
export VMCP_PORT_OFFSET=${TRUTH_PORT_OFFSET:-2900}
export VMCP_POD_CIDR=${TRUTH_POD_CIDR:-10.246.0.0/24} VMCP_SERVICE_CIDR=${TRUTH_SERVICE_CIDR:-10.118.0.0/16}

trap '"$bin/cluster" down 2>/dev/null' EXIT
"$bin/cluster" down # a fresh one: its requests are counted
"$bin/cluster" up cp >/dev/null
eval "$("$bin/cluster" env)"
"$bin/truth" -seed "$seed" -time "$time" -operator "$bin/operator" -vmcp "$bin/vmcp" -kwok "$kwok" \
	-logs "${TRUTH_LOGS-}" -document "${TRUTH_OUT-}"
