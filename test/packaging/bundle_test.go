// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// root is the folder of the repository.
var root = filepath.Join("..", "..")

// operatorAccount is the ServiceAccount of the operator.
const operatorAccount = "vmcp-operator"

func readYAML(g *WithT, into any, path ...string) {
	data, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(yaml.Unmarshal(data, into)).To(Succeed())
}

// clusterServiceVersion is what is tested of OLM's kind of this name.
type clusterServiceVersion struct {
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Version       string         `json:"version"`
		Icon          []icon         `json:"icon"`
		InstallModes  []installMode  `json:"installModes"`
		RelatedImages []relatedImage `json:"relatedImages"`
		Install       struct {
			Spec struct {
				Permissions        []permissions `json:"permissions"`
				ClusterPermissions []permissions `json:"clusterPermissions"`
				Deployments        []struct {
					Spec appsv1.DeploymentSpec `json:"spec"`
				} `json:"deployments"`
			} `json:"spec"`
		} `json:"install"`
		CustomResourceDefinitions struct {
			Owned []ownedKind `json:"owned"`
		} `json:"customresourcedefinitions"`
	} `json:"spec"`
}

type icon struct {
	Data      []byte `json:"base64data"`
	MediaType string `json:"mediatype"`
}

type installMode struct {
	Type      string `json:"type"`
	Supported bool   `json:"supported"`
}

type relatedImage struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

type permissions struct {
	ServiceAccountName string              `json:"serviceAccountName"`
	Rules              []rbacv1.PolicyRule `json:"rules"`
}

type ownedKind struct {
	Kind              string       `json:"kind"`
	Name              string       `json:"name"`
	Resources         []any        `json:"resources"`
	SpecDescriptors   []descriptor `json:"specDescriptors"`
	StatusDescriptors []descriptor `json:"statusDescriptors"`
}

type descriptor struct {
	Path        string `json:"path"`
	Description string `json:"description"`
}

func readCSV(g *WithT) *clusterServiceVersion {
	csv := &clusterServiceVersion{}
	readYAML(g, csv, "bundle", "manifests", "vmcp-operator.clusterserviceversion.yaml")
	return csv
}

// examples are the objects of the bundle's alm-examples.
func examples(g *WithT, csv *clusterServiceVersion) []unstructured.Unstructured {
	var objects []unstructured.Unstructured
	g.Expect(json.Unmarshal([]byte(csv.Annotations["alm-examples"]), &objects)).To(Succeed())
	return objects
}

// ownedSchema is the schema of a kind, by the CRD that the bundle brings.
func ownedSchema(g *WithT, name string) map[string]apiextensionsv1.JSONSchemaProps {
	crds, err := filepath.Glob(filepath.Join(root, "bundle", "manifests", "vmcp.dev_*.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	for _, file := range crds {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		readYAML(g, crd, "bundle", "manifests", filepath.Base(file))
		if crd.Name == name {
			g.Expect(crd.Spec.Versions).To(HaveLen(1))
			return crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties
		}
	}
	g.Expect(crds).To(ContainElement(name), "no CRD of this name")
	return nil
}

// owner is how a description says who acts on a field of the spec, or writes one of the status.
const owner = `([Aa]cted on|[Ww]ritten)\s+by\s+(neither\s+)?the\s+(operator|runtime)`

// inPlaceOfRuntime is how a description says that the operator speaks for a runtime which is silent.
const inPlaceOfRuntime = `by\s+the\s+operator\s+while\s+no\s+runtime\s+reports`

// What OLM's console shows describes every field, and says whose it is; the examples set each of them, so that scorecard's tests of the
// descriptors test them all.
func TestBundleDescribesEveryField(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	csv := readCSV(g)
	owned := csv.Spec.CustomResourceDefinitions.Owned
	g.Expect(owned).To(HaveLen(4))
	for _, kind := range owned {
		g.Expect(kind.Resources).NotTo(BeEmpty(), kind.Kind)
		described := map[string]map[string]string{"spec": {}, "status": {}}
		for _, d := range kind.SpecDescriptors {
			described["spec"][d.Path] = d.Description
		}
		for _, d := range kind.StatusDescriptors {
			described["status"][d.Path] = d.Description
		}
		for _, condition := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionPaused} {
			g.Expect(described["status"]["conditions"]).To(MatchRegexp(`\b`+condition+`\b`), kind.Kind)
		}
		if kind.Kind == "VirtualMCPServer" {
			for _, field := range []string{"phase", "message", "conditions", "discoveredBackends", "backends"} {
				g.Expect(described["status"]).To(HaveKeyWithValue(field, MatchRegexp(inPlaceOfRuntime)), field)
			}
		}
		shown := map[string]map[string]bool{"spec": {}, "status": {}}
		for _, example := range examples(g, csv) {
			if example.GetKind() != kind.Kind {
				continue
			}
			for part, fields := range shown {
				values, _, err := unstructured.NestedMap(example.Object, part)
				g.Expect(err).NotTo(HaveOccurred())
				for field := range values {
					fields[field] = true
				}
			}
		}
		schema := ownedSchema(g, kind.Name)
		for part, fields := range described {
			g.Expect(fields).To(HaveLen(len(schema[part].Properties)), "%s.%s", kind.Kind, part)
			for field := range schema[part].Properties {
				g.Expect(fields).To(HaveKeyWithValue(field, MatchRegexp(owner)), "%s.%s.%s", kind.Kind, part, field)
				g.Expect(shown[part]).To(HaveKey(field), "no example sets %s.%s.%s", kind.Kind, part, field)
			}
		}
	}
}

// The rights that the bundle asks for are those of config/namespaced: by OLM's hand Roles, in the namespaces that the OperatorGroup
// selects.
func TestBundleAsksForNamespacedRightsOnly(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	csv := readCSV(g)
	strategy := csv.Spec.Install.Spec
	g.Expect(strategy.ClusterPermissions).To(BeEmpty())
	g.Expect(strategy.Permissions).To(HaveLen(1))
	g.Expect(strategy.Permissions[0].ServiceAccountName).To(Equal(operatorAccount))
	g.Expect(strategy.Permissions[0].Rules).NotTo(BeEmpty())
	for _, rule := range strategy.Permissions[0].Rules {
		for _, values := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
			g.Expect(values).NotTo(ContainElement("*"), "%v", rule)
		}
		g.Expect(rule.NonResourceURLs).To(BeEmpty())
		// What has no namespace, and what OLM gives by itself.
		g.Expect(rule.Resources).NotTo(ContainElements("tokenreviews", "subjectaccessreviews", "operatorconditions", "clusterroles"))
	}
	g.Expect(csv.Spec.InstallModes).To(ConsistOf(
		installMode{"OwnNamespace", true}, installMode{"SingleNamespace", true}, installMode{"MultiNamespace", true}, installMode{"AllNamespaces", true},
	))
	manifests, err := filepath.Glob(filepath.Join(root, "bundle", "manifests", "*rbac*"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(manifests).To(BeEmpty(), "OLM makes the roles of users itself")

	g.Expect(strategy.Deployments).To(HaveLen(1))
	operator := strategy.Deployments[0].Spec.Template.Spec.Containers[0]
	g.Expect(operator.Args).To(ConsistOf("--leader-elect", "--metrics-authorization=none"))
	g.Expect(operator.Env).To(ContainElement(And(
		HaveField("Name", "WATCH_NAMESPACE"), HaveField("ValueFrom.FieldRef.FieldPath", "metadata.annotations['olm.targetNamespaces']"),
	)))
}

// pullSpec is what operator-sdk, told to use digests, takes for the name of an image in an annotation, and asks the registry about.
const pullSpec = `[\w-]+\.[\w.-]+(:\d+)?/[\w./-]+(:[\w.-]+|@sha256:\w+)`

// Every image is one of a release, and listed for those who mirror them; examples name none that a release would have to resolve.
func TestBundleListsItsImages(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	csv := readCSV(g)
	tag := ":v" + csv.Spec.Version
	operator, runtime := "ghcr.io/vmcp-dev/vmcp-operator"+tag, "ghcr.io/vmcp-dev/vmcp-runtime"+tag
	g.Expect(csv.Spec.RelatedImages).To(ConsistOf(
		relatedImage{Name: "operator", Image: operator}, relatedImage{Name: "runtime", Image: runtime},
	))
	g.Expect(csv.Annotations).To(HaveKeyWithValue("containerImage", operator))
	g.Expect(csv.Annotations["alm-examples"]).NotTo(MatchRegexp(pullSpec))
	g.Expect(csv.Annotations).To(HaveKeyWithValue("olm.skipRange", "<"+csv.Spec.Version))
	container := csv.Spec.Install.Spec.Deployments[0].Spec.Template.Spec.Containers[0]
	g.Expect(container.Image).To(Equal(operator))
	g.Expect(container.Env).To(ContainElement(And(HaveField("Name", "RELATED_IMAGE_RUNTIME"), HaveField("Value", runtime))))
}

func TestBundleIcon(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	csv := readCSV(g)
	svg, err := os.ReadFile(filepath.Join(root, "config", "manifests", "icon.svg"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(csv.Spec.Icon).To(ConsistOf(icon{Data: svg, MediaType: "image/svg+xml"}))
}

// The API server accepts every example, its status included, and knows every field in it.
func TestBundleExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	csv := readCSV(g)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "examples-"}}
	g.Expect(api.Create(t.Context(), namespace)).To(Succeed())
	statuses := map[string]int{}
	for _, example := range examples(g, csv) {
		example.SetNamespace(namespace.Name)
		status := example.DeepCopy()
		g.Expect(api.Create(t.Context(), &example, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))).To(Succeed(), example.GetName())
		if status.Object["status"] == nil {
			continue
		}
		// A status is that of an object which is there.
		statuses[status.GetKind()]++
		stored := status.DeepCopy()
		g.Expect(api.Create(t.Context(), stored)).To(Succeed())
		status.SetResourceVersion(stored.GetResourceVersion())
		g.Expect(api.Status().Update(t.Context(), status, client.FieldValidation(metav1.FieldValidationStrict))).To(Succeed(), status.GetName())
	}
	g.Expect(statuses).To(HaveLen(4), "each kind has an example with a status")
}
