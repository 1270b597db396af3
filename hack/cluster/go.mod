module github.com/vmcp-dev/vmcp-operator/hack/cluster

go 1.26.0

require (
	github.com/google/go-containerregistry v0.21.9
	github.com/vishvananda/netlink v1.3.1
	github.com/vmcp-dev/vmcp-operator/hack/images v0.0.0
	sigs.k8s.io/yaml v1.6.0
)

require (
	github.com/docker/cli v29.6.2+incompatible // indirect
	github.com/docker/docker-credential-helpers v0.9.5 // indirect
	github.com/klauspost/compress v1.19.1 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/sirupsen/logrus v1.9.4 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/vmcp-dev/vmcp-operator/hack/images => ../images
