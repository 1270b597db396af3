#!/usr/bin/env bash
# scale.sh SERVERS BIN KWOK: starts a control plane of its own, beside any other cluster of this machine, measures the operator in it
# with so many VirtualMCPServers (test/scale), and removes it. What was measured with the full number goes into docs/performance.md.
set -euo pipefail
servers=$1 bin=$2 kwok=$3

# The defaults keep clear of those of bin/cluster itself.
export VMCP_CLUSTER_STATE=${SCALE_STATE:-/tmp/vmcp-operator-scale}
export VMCP_PORT_OFFSET=${SCALE_PORT_OFFSET:-1700}
export VMCP_POD_CIDR=${SCALE_POD_CIDR:-10.245.0.0/24} VMCP_SERVICE_CIDR=${SCALE_SERVICE_CIDR:-10.117.0.0/16}

document=()
[ "$servers" -lt 500 ] || document=(-document docs/performance.md)
logs=$(mktemp -d)
trap '"$bin/cluster" down' EXIT
"$bin/cluster" down # a fresh one: its requests are counted
"$bin/cluster" up cp >/dev/null
eval "$("$bin/cluster" env)"
"$bin/scale" -servers "$servers" -operator "$bin/operator" -kwok "$kwok" -logs "$logs" "${document[@]}"
rm -r "$logs"
