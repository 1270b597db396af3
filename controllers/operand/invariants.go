// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// objects are what is provisioned, as the API server sees it. They are never modified, only replaced.
type objects struct {
	ServiceAccount *corev1.ServiceAccount
	Role           *rbacv1.Role
	RoleBinding    *rbacv1.RoleBinding
	ConfigMap      *corev1.ConfigMap
	Lease          *coordinationv1.Lease
	Deployment     *appsv1.Deployment
	Service        *corev1.Service
	// HorizontalPodAutoscaler may be nil.
	HorizontalPodAutoscaler *autoscalingv2.HorizontalPodAutoscaler
}

func newObjects(o *Operand) (*objects, error) {
	is := &objects{}
	intents := map[string]any{
		"ServiceAccount": o.ServiceAccount, "Role": o.Role, "RoleBinding": o.RoleBinding, "ConfigMap": o.ConfigMap,
		"Lease": o.Lease, "Deployment": o.Deployment, "Service": o.Service,
	}
	if o.HorizontalPodAutoscaler != nil {
		intents[kindAutoscaler] = o.HorizontalPodAutoscaler
	}
	for kind, intent := range intents {
		if err := is.set(kind, intent); err != nil {
			return nil, err
		}
	}
	return is, nil
}

// set replaces the object of a kind by what an apply configuration says.
func (o *objects) set(kind string, intent any) error {
	data, err := json.Marshal(intent)
	if err != nil {
		return fmt.Errorf("encoding the %s: %w", kind, err)
	}
	switch kind {
	case "ServiceAccount":
		o.ServiceAccount, err = typed[corev1.ServiceAccount](data)
	case "Role":
		o.Role, err = typed[rbacv1.Role](data)
	case "RoleBinding":
		o.RoleBinding, err = typed[rbacv1.RoleBinding](data)
	case "ConfigMap":
		o.ConfigMap, err = typed[corev1.ConfigMap](data)
	case "Lease":
		o.Lease, err = typed[coordinationv1.Lease](data)
	case "Deployment":
		o.Deployment, err = typed[appsv1.Deployment](data)
	case "Service":
		o.Service, err = typed[corev1.Service](data)
	case kindAutoscaler:
		o.HorizontalPodAutoscaler, err = typed[autoscalingv2.HorizontalPodAutoscaler](data)
	}
	if err != nil {
		return fmt.Errorf("the patched %s: %w", kind, err)
	}
	return nil
}

func typed[T any](data []byte) (*T, error) {
	o := new(T)
	return o, json.Unmarshal(data, o)
}

// metadata is what names an object, by kind; pods are the template of the Deployment's.
func (o *objects) metadata() map[string]*metav1.ObjectMeta {
	all := map[string]*metav1.ObjectMeta{
		"ServiceAccount": &o.ServiceAccount.ObjectMeta,
		"Role":           &o.Role.ObjectMeta,
		"RoleBinding":    &o.RoleBinding.ObjectMeta,
		"ConfigMap":      &o.ConfigMap.ObjectMeta,
		"Lease":          &o.Lease.ObjectMeta,
		"Deployment":     &o.Deployment.ObjectMeta,
		"Service":        &o.Service.ObjectMeta,
		"pod template":   &o.Deployment.Spec.Template.ObjectMeta,
	}
	if o.HorizontalPodAutoscaler != nil {
		all[kindAutoscaler] = &o.HorizontalPodAutoscaler.ObjectMeta
	}
	return all
}

func (o *objects) types() map[string]metav1.TypeMeta {
	all := map[string]metav1.TypeMeta{
		"ServiceAccount": o.ServiceAccount.TypeMeta,
		"Role":           o.Role.TypeMeta,
		"RoleBinding":    o.RoleBinding.TypeMeta,
		"ConfigMap":      o.ConfigMap.TypeMeta,
		"Lease":          o.Lease.TypeMeta,
		"Deployment":     o.Deployment.TypeMeta,
		"Service":        o.Service.TypeMeta,
	}
	if o.HorizontalPodAutoscaler != nil {
		all[kindAutoscaler] = o.HorizontalPodAutoscaler.TypeMeta
	}
	return all
}

func (o *objects) pod() *corev1.PodSpec { return &o.Deployment.Spec.Template.Spec }

// runtimes are the containers of the runtime's name; there has to be one.
func (o *objects) runtimes() []corev1.Container {
	return slices.DeleteFunc(slices.Clone(o.pod().Containers), func(c corev1.Container) bool { return c.Name != placeholder })
}

// invariant compares what the operator rendered with what a user's patches made of it. It returns a sentence that says which rule
// is broken, or "".
type invariant func(was, is *objects) string

// invariants are all rules for patches: what the gateway needs to work, what the operator finds its objects by, and what would
// give a user of VirtualMCPServers a right that he does not have. The first ones make the later ones safe to ask.
var invariants = []invariant{
	sameTypes,
	sameIdentity,
	ownLabels,
	ownAnnotations,
	validMetadata,
	sameServiceAccount,
	sameRole,
	sameRoleBinding,
	sameConfigMap,
	sameLease,
	sameSelector,
	oneRuntime,
	sameProgram,
	noCommands,
	sameEnvironment,
	noSteeringEnvironment,
	samePorts,
	samePodIdentity,
	sameVolumes,
	sameMounts,
	privateVolumes,
	noOtherSecrets,
	noOtherTokens,
	noEphemeralContainers,
	ownProcesses,
	linuxOnly,
	restrictedPods,
	sameServicePort,
	clusterAddress,
	sameScaling,
}

func sameTypes(was, is *objects) string {
	now := is.types()
	for kind, t := range inOrder(was.types()) {
		if now[kind] != t {
			return fmt.Sprintf("the patch changes apiVersion or kind of the %s", kind)
		}
	}
	return ""
}

func sameIdentity(was, is *objects) string {
	now := is.metadata()
	for kind, m := range inOrder(was.metadata()) {
		if !equality.Semantic.DeepEqual(bare(m), bare(now[kind])) {
			return fmt.Sprintf("the patch changes the metadata of the %s; only labels and annotations may be changed", kind)
		}
	}
	return ""
}

// bare is metadata without labels and annotations.
func bare(m *metav1.ObjectMeta) *metav1.ObjectMeta {
	m = m.DeepCopy()
	m.Labels, m.Annotations = nil, nil
	return m
}

func ownLabels(was, is *objects) string {
	now := is.metadata()
	for kind, m := range inOrder(was.metadata()) {
		if key := changedKey(m.Labels, now[kind].Labels, v1alpha1.OperatorLabel); key != "" {
			return fmt.Sprintf("the patch changes the label %s of the %s; the operator finds its objects by it", key, kind)
		}
	}
	return ""
}

func ownAnnotations(was, is *objects) string {
	now := is.metadata()
	for kind, m := range inOrder(was.metadata()) {
		if key := changedKey(m.Annotations, now[kind].Annotations, v1alpha1.OperatorAnnotation); key != "" {
			return fmt.Sprintf("the patch changes the annotation %s of the %s; it is written by the operator or by Kubernetes itself", key, kind)
		}
	}
	return ""
}

// validMetadata finds what the API server would refuse only after other objects have changed already.
func validMetadata(_, is *objects) string {
	for kind, m := range inOrder(is.metadata()) {
		path := field.NewPath("metadata")
		errs := append(metav1validation.ValidateLabels(m.Labels, path.Child("labels")),
			validation.ValidateAnnotations(m.Annotations, path.Child("annotations"))...)
		if len(errs) > 0 {
			return fmt.Sprintf("the patched %s: %v", kind, errs.ToAggregate())
		}
	}
	return ""
}

// changedKey is the first key, of those that matter, whose value differs or that only one of the maps has.
func changedKey(was, is map[string]string, matters func(string) bool) string {
	keys := slices.Sorted(maps.Keys(was))
	for _, key := range append(keys, slices.Sorted(maps.Keys(is))...) {
		old, had := was[key]
		value, has := is[key]
		if matters(key) && (had != has || old != value) {
			return key
		}
	}
	return ""
}

func sameServiceAccount(was, is *objects) string {
	a, b := was.ServiceAccount.DeepCopy(), is.ServiceAccount.DeepCopy()
	a.ObjectMeta, b.ObjectMeta = metav1.ObjectMeta{}, metav1.ObjectMeta{}
	return unless(equality.Semantic.DeepEqual(a, b), "the patch changes the ServiceAccount; only its labels and annotations may be changed")
}

func sameRole(was, is *objects) string {
	return unless(equality.Semantic.DeepEqual(was.Role.Rules, is.Role.Rules), "the patch changes the rules of the Role")
}

func sameRoleBinding(was, is *objects) string {
	return unless(was.RoleBinding.RoleRef == is.RoleBinding.RoleRef &&
		equality.Semantic.DeepEqual(was.RoleBinding.Subjects, is.RoleBinding.Subjects),
		"the patch changes whom the RoleBinding gives rights, or which")
}

func sameConfigMap(was, is *objects) string {
	a, b := was.ConfigMap.DeepCopy(), is.ConfigMap.DeepCopy()
	a.ObjectMeta, b.ObjectMeta = metav1.ObjectMeta{}, metav1.ObjectMeta{}
	return unless(equality.Semantic.DeepEqual(a, b),
		"the patch changes the ConfigMap, which is the runtime's configuration; change the spec of the VirtualMCPServer instead")
}

func sameLease(was, is *objects) string {
	return unless(equality.Semantic.DeepEqual(was.Lease.Spec, is.Lease.Spec), "the patch changes the spec of the Lease, which is the runtime's")
}

func sameSelector(was, is *objects) string {
	if !equality.Semantic.DeepEqual(was.Deployment.Spec.Selector, is.Deployment.Spec.Selector) {
		return "the patch changes the selector of the Deployment"
	}
	return unless(equality.Semantic.DeepEqual(was.Service.Spec.Selector, is.Service.Spec.Selector), "the patch changes the selector of the Service")
}

// sameServicePort keeps the port of the gateway's URL; a node port is the user's to choose.
func sameServicePort(was, is *objects) string {
	for _, want := range was.Service.Spec.Ports {
		have := slices.DeleteFunc(slices.Clone(is.Service.Spec.Ports), func(p corev1.ServicePort) bool {
			return p.Port != want.Port || p.Protocol != "" && p.Protocol != want.Protocol
		})
		if len(have) == 1 {
			have[0].NodePort, have[0].AppProtocol = want.NodePort, want.AppProtocol
		}
		if len(have) != 1 || !equality.Semantic.DeepEqual(have[0], want) {
			return fmt.Sprintf("the patch changes or doubles port %d of the Service, which is that of the gateway's URL", want.Port)
		}
	}
	return ""
}

// clusterAddress keeps the gateway's URL working; externalIPs would draw the traffic of others to the gateway.
func clusterAddress(_, is *objects) string {
	s := is.Service.Spec
	switch {
	case s.Type == corev1.ServiceTypeExternalName || s.ClusterIP == corev1.ClusterIPNone || slices.Contains(s.ClusterIPs, corev1.ClusterIPNone):
		return "the patch takes the cluster address away from the Service, which is that of the gateway's URL"
	case len(s.ExternalIPs) > 0:
		return "the patch sets externalIPs of the Service, which could draw the traffic of others to the gateway"
	default:
		return ""
	}
}

// sameScaling leaves metrics and behaviour to patches, and the rest to spec.autoscaling, which the hand-over of the number of pods goes by.
func sameScaling(was, is *objects) string {
	if was.HorizontalPodAutoscaler == nil {
		return ""
	}
	a, b := was.HorizontalPodAutoscaler.Spec, is.HorizontalPodAutoscaler.Spec
	if a.ScaleTargetRef != b.ScaleTargetRef {
		return "the patch changes what the HorizontalPodAutoscaler scales"
	}
	return unless(equality.Semantic.DeepEqual(a.MinReplicas, b.MinReplicas) && a.MaxReplicas == b.MaxReplicas,
		"the patch changes the bounds of the HorizontalPodAutoscaler; change spec.autoscaling instead")
}

// unless returns a sentence if a rule does not hold.
func unless(holds bool, sentence string) string {
	if holds {
		return ""
	}
	return sentence
}

// inOrder goes through a map in the order of its keys, so that the same mistake is always reported the same.
func inOrder[V any](m map[string]V) func(func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
