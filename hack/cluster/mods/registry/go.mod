module github.com/vmcp-dev/vmcp-operator/hack/cluster/mods/registry

go 1.26.0

require github.com/google/go-containerregistry v0.21.9
