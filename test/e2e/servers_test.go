//go:build e2e

// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// server is an MCP server in a pod of its own, at port 80 of a Service of its name, of which the operator knows nothing.
type server struct {
	name, image string
	args        []string
	ready       int    // port that is open once it serves; 8080 unless set
	tokens      string // Secret that the pod reads below /tokens; none if empty
}

// manifests are its Deployment and its Service.
func (s server) manifests(t *testing.T) string {
	t.Helper()
	args, err := json.Marshal(s.args)
	if err != nil {
		t.Fatal(err)
	}
	mounts, volumes := "[]", "[]"
	if s.tokens != "" {
		mounts, volumes = "[{name: tokens, mountPath: /tokens}]", "[{name: tokens, secret: {secretName: "+s.tokens+"}}]"
	}
	return strings.NewReplacer("NAME", s.name, "IMAGE", s.image, "ARGS", string(args), "READY", strconv.Itoa(cmp.Or(s.ready, 8080)),
		"MOUNTS", mounts, "VOLUMES", volumes).Replace(`
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: server
        image: IMAGE
        imagePullPolicy: IfNotPresent
        args: ARGS
        readinessProbe: {tcpSocket: {port: READY}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: MOUNTS
      volumes: VOLUMES
---
`)
}

// start applies it and waits until it serves.
func (s server) start(t *testing.T) {
	t.Helper()
	apply(t, s.manifests(t))
	must(t, "rollout", "status", "deployment/"+s.name, "--timeout="+startLimit.String())
}

// everythingImage is the image of the demo's everything-server.
func everythingImage(t *testing.T) string {
	t.Helper()
	return must(t, "get", "deployment", "everything", "--output=jsonpath={.spec.template.spec.containers[0].image}")
}

// ownImage is the image of one of the servers that these tests have of their own.
func ownImage(server string) string {
	return os.Getenv("IMAGE_REGISTRY") + "/e2e-" + server + ":" + os.Getenv("IMAGE_TAG")
}

// tokenServer is a server that answers those who have a token of its Secret.
func tokenServer(name, tokens string) server {
	return server{name: name, image: ownImage("tokenserver"), tokens: tokens}
}
