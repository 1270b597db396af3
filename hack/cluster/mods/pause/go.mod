module github.com/vmcp-dev/vmcp-operator/hack/cluster/mods/pause

go 1.26.0
