// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Pages are those whose commands are run.
var Pages = []string{"docs/install.md", "docs/operations.md", "docs/upgrade.md"}

// Part is a section of a page; Section is empty for the whole page. Before are commands that bring about what the section is about, After
// commands that look at what came of it, where the section has none.
type Part struct{ Page, Section, Before, After string }

// Story is what somebody does from an empty cluster on, in this order.
type Story []Part

// The stories between them run every block that is not exempt.
var (
	Kustomize = Story{
		{Page: "docs/install.md", Section: "With Kustomize, for all namespaces"},
		{Page: "docs/install.md", Section: "The first gateway", After: forwarded},
		{Page: "docs/operations.md"},
		{Page: "docs/upgrade.md", Section: "With Kustomize", Before: olderVersion, After: newVersion},
		{Page: "docs/install.md", Section: "Remove it from all namespaces"},
		{Page: "docs/install.md", Section: "With Kustomize, for one namespace", After: hasRights},
		{Page: "docs/install.md", Section: "Remove it from one namespace"},
	}
	OLM = Story{
		{Page: "docs/install.md", Section: "With OLM"},
		{Page: "docs/install.md", Section: "The first gateway", After: forwarded},
		{Page: "docs/upgrade.md", Section: "With OLM", Before: unapproved, After: approved},
		{Page: "docs/install.md", Section: "Remove it from OLM"},
	}
)

// olderVersion puts the version OLDER_VERSION in the place of the one that config/default installs, and waits until the gateway runs it;
// newVersion sees that it runs the latter.
const (
	olderVersion = `newer=$(sed -n 's/ *newTag: //p' config/default/kustomization.yaml | sort -u)
runs() { kubectl -n team wait deployment/vmcp-team --timeout=120s \
  --for=jsonpath='{.spec.template.spec.containers[0].image}'="ghcr.io/vmcp-dev/vmcp-runtime:$1"; }
kubectl kustomize config/default | sed "s/:$newer$/:v$OLDER_VERSION/" | kubectl apply --server-side -f - | grep deployment
runs "v$OLDER_VERSION"
kubectl -n team rollout status deployment/vmcp-team --timeout=120s
`
	newVersion = `runs "$newer"
`
)

// forwarded asks the gateway through the port that is forwarded, and ends that.
const forwarded = `curl --silent --show-error --fail --max-time 10 --retry 30 --retry-delay 1 --retry-all-errors http://127.0.0.1:4483/mcp \
  --header 'Content-Type: application/json' --header 'Accept: application/json, text/event-stream' \
  --data '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"docs","version":"1"}}}' |
  grep '"serverInfo"'
kill $!
wait $! || true
`

// hasRights sees that the rights which the page compares are any.
const hasRights = `rights default:default | grep selfsubjectaccessreviews
`

// unapproved has OLM install the operator anew and wait for an approval: the catalog of the story has no newer version to upgrade to. approved
// sees that it is installed once that is given, and that the operator says something to OLM.
const (
	unapproved = `csv=$(kubectl -n vmcp-system get subscription.operators.coreos.com vmcp-operator -o jsonpath='{.status.installedCSV}')
kubectl -n vmcp-system delete subscription.operators.coreos.com vmcp-operator
kubectl -n vmcp-system delete clusterserviceversion "$csv"
kubectl -n vmcp-system wait deployments,serviceaccounts,roles,rolebindings --selector=olm.owner --for=delete --timeout=120s
kubectl -n vmcp-system delete installplan --all
kubectl apply -f - <<'YAML'
apiVersion: operators.coreos.com/v1alpha1
kind: Subscription
metadata: {name: vmcp-operator, namespace: vmcp-system}
spec: {name: vmcp-operator, channel: stable, source: vmcp-operator, sourceNamespace: vmcp-system, installPlanApproval: Manual}
YAML
kubectl -n vmcp-system wait subscription.operators.coreos.com/vmcp-operator --for=jsonpath='{.status.installPlanRef.name}' --timeout=300s
plan=$(kubectl -n vmcp-system get subscription.operators.coreos.com vmcp-operator -o jsonpath='{.status.installPlanRef.name}')
test "$(kubectl -n vmcp-system get installplan "$plan" -o jsonpath='{.spec.approved}')" = false
`
	approved = `kubectl -n vmcp-system wait subscription.operators.coreos.com/vmcp-operator --for=jsonpath='{.status.installedCSV}'="$csv" --timeout=300s
kubectl -n vmcp-system wait clusterserviceversion "$csv" --for=jsonpath='{.status.phase}'=Succeeded --timeout=300s
kubectl -n vmcp-system get operatorcondition -o jsonpath='{range .items[*].spec.conditions[*]}{.type}={.status} {.reason}{"\n"}{end}' | grep '^Upgradeable='
`
)

// Read reads the pages below a folder.
func Read(root string) (map[string][]Block, error) {
	pages := map[string][]Block{}
	for _, page := range Pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			return nil, fmt.Errorf("reading a page: %w", err)
		}
		if pages[page], err = Blocks(page, string(text)); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// Blocks are those of a story, in its order. A part without any is an error.
func (s Story) Blocks(pages map[string][]Block) ([]Block, error) {
	var all []Block
	for _, part := range s {
		blocks := slices.DeleteFunc(slices.Clone(pages[part.Page]), func(b Block) bool {
			return part.Section != "" && b.Section != part.Section
		})
		if len(blocks) == 0 {
			return nil, fmt.Errorf("%s has no commands in %q", part.Page, part.Section)
		}
		if part.Before != "" {
			all = append(all, Block{Page: "before " + part.Page, Commands: part.Before})
		}
		all = append(all, blocks...)
		if part.After != "" {
			all = append(all, Block{Page: "after " + part.Page, Commands: part.After})
		}
	}
	return all, nil
}

// Ours says whether an object of the cluster, KIND/NAME as kubectl prints it, is there because of us: the kinds, their roles and those that
// OLM makes for them and for an OperatorGroup, and some namespaces, with what OLM keeps about an operator in one of them.
func Ours(object string, namespaces []string) bool {
	kind, name, _ := strings.Cut(object, "/")
	switch kind, _, _ = strings.Cut(kind, "."); kind {
	case "namespace":
		return slices.Contains(namespaces, name)
	case "clusterrole", "clusterrolebinding":
		return strings.Contains(name, "vmcp-operator") || strings.Contains(name, ".vmcp.dev")
	case "operator": // OLM calls it PACKAGE.NAMESPACE
		_, namespace, _ := strings.Cut(name, ".")
		return slices.Contains(namespaces, namespace)
	default:
		return strings.HasSuffix(name, ".vmcp.dev")
	}
}
