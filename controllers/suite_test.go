// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/operator-framework/api/crds"
	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/vmcp-dev/vmcp-operator/controllers"
)

const (
	// soon is how long the tests wait for what has to happen.
	soon = 20 * time.Second
	// aWhile is how long they watch that something does not happen.
	aWhile = time.Second
	// often is how often they look.
	often = 20 * time.Millisecond
)

const runtimeImage = "registry.example.com/vmcp-runtime:test"

// admin is the client of the tests themselves, and adminConfig what it connects with; operatorConfig is what the operator connects with: a user that holds nothing but
// the generated ClusterRole, so that every test is a test of that role, too.
var (
	admin          client.Client
	adminConfig    *rest.Config
	operatorConfig *rest.Config
)

func TestMain(m *testing.M) {
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
		// As OLM brings it.
		CRDs: []*apiextensionsv1.CustomResourceDefinition{crds.OperatorCondition()},
	}
	// Nothing collects garbage here: each Service keeps its address, and envtest has 254 of them unless it is told otherwise.
	environment.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	config, err := environment.Start()
	if err != nil {
		return 0, fmt.Errorf("starting kube-apiserver and etcd (KUBEBUILDER_ASSETS must name their folder): %w", err)
	}
	defer func() {
		if stopErr := environment.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stopping kube-apiserver and etcd: %w", stopErr)
		}
	}()
	scheme, err := controllers.NewScheme()
	if err != nil {
		return 0, err
	}
	config.QPS, config.Burst = -1, 0
	adminConfig = config
	if admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return 0, err
	}
	user, err := environment.AddUser(envtest.User{Name: "vmcp-operator"}, config)
	if err != nil {
		return 0, fmt.Errorf("adding the operator's user: %w", err)
	}
	operatorConfig = user.Config()
	if err := bindOperatorRole(context.Background()); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func readOperatorRole() (*rbacv1.ClusterRole, error) {
	data, err := os.ReadFile(filepath.Join("..", "config", "rbac", "role.yaml"))
	if err != nil {
		return nil, err
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(data, role); err != nil {
		return nil, fmt.Errorf("reading the generated role: %w", err)
	}
	return role, nil
}

func bindOperatorRole(ctx context.Context) error {
	role, err := readOperatorRole()
	if err != nil {
		return err
	}
	if err := admin.Create(ctx, role); err != nil {
		return fmt.Errorf("creating the operator's role: %w", err)
	}
	return admin.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "vmcp-operator"}},
	})
}

// fixture is a namespace of its own with an operator that watches nothing else.
type fixture struct {
	*WithT
	t         *testing.T
	ctx       context.Context
	namespace string
	requests  *recorder
	manager   ctrl.Manager
	// operatorConfig is what the operator connects with, in the place of that of the suite.
	operatorConfig *rest.Config
	stop           func()
}

var namespaces atomic.Int64

// newFixture makes a namespace and starts an operator.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := newNamespace(t)
	f.start()
	return f
}

// newNamespace makes a namespace; the operator is yet to be started.
func newNamespace(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		WithT:     NewWithT(t),
		t:         t,
		ctx:       t.Context(),
		namespace: fmt.Sprintf("t%d", namespaces.Add(1)),
		requests:  &recorder{},

		operatorConfig: operatorConfig,
	}
	f.SetDefaultEventuallyTimeout(soon)
	f.SetDefaultEventuallyPollingInterval(often)
	f.SetDefaultConsistentlyDuration(aWhile)
	f.SetDefaultConsistentlyPollingInterval(often)
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}})
	return f
}

// start runs an operator until the test ends, or stop is called.
func (f *fixture) start() {
	f.t.Helper()
	f.startWith(func(mgr ctrl.Manager) error {
		return controllers.Setup(f.ctx, mgr, controllers.Settings{
			RuntimeImage: runtimeImage,
			ProxyEnv:     []corev1.EnvVar{{Name: "NO_PROXY", Value: ".svc"}},
		})
	})
}

// startWith runs an operator of the controllers that setup adds.
func (f *fixture) startWith(setup func(ctrl.Manager) error) {
	f.t.Helper()
	config := rest.CopyConfig(f.operatorConfig)
	config.QPS, config.Burst = -1, 0
	config.Wrap(f.requests.wrap)
	options, err := controllers.ManagerOptions([]string{f.namespace})
	f.Expect(err).NotTo(HaveOccurred())
	options.Metrics = metricsserver.Options{BindAddress: "0"}
	options.Controller.SkipNameValidation = new(true) // Several operators run in one process here, one after another or at once.
	options.Logger = logr.Discard()
	f.manager, err = ctrl.NewManager(controllers.CacheConfig(config), options)
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(setup(f.manager)).To(Succeed())

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.manager.Start(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		f.Expect(<-done).To(Succeed())
	})
	f.t.Cleanup(f.stop)
}

func (f *fixture) restart() {
	f.t.Helper()
	f.stop()
	f.start()
}

func (f *fixture) create(objects ...client.Object) {
	f.t.Helper()
	for _, o := range objects {
		f.Expect(admin.Create(f.ctx, o)).To(Succeed())
	}
}

// meta is the metadata of an object in the fixture's namespace.
func (f *fixture) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: f.namespace, Name: name}
}

// get reads an object of the fixture's namespace anew.
func get[T any, O interface {
	*T
	client.Object
}](f *fixture, name string) (O, error) {
	o := O(new(T))
	return o, admin.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, o)
}

// request is one request that the operator made.
type request struct {
	userAgent string
	method    string
	path      string
	accept    string
	conflict  bool // the answer
}

func (r request) write() bool { return r.method != http.MethodGet }

func (r request) event() bool { return strings.HasPrefix(r.path, "/apis/events.k8s.io/") }

// recorder keeps the requests that the operator makes.
type recorder struct {
	mu       sync.Mutex
	requests []*request
}

func (r *recorder) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		made := &request{userAgent: req.UserAgent(), method: req.Method, path: req.URL.Path, accept: req.Header.Get("Accept")}
		r.mu.Lock()
		r.requests = append(r.requests, made)
		r.mu.Unlock()
		response, err := next.RoundTrip(req)
		if err == nil && response.StatusCode == http.StatusConflict {
			r.mu.Lock()
			made.conflict = true
			r.mu.Unlock()
		}
		return response, err
	})
}

// of returns the requests of one controller so far, discovery of the API left out.
func (r *recorder) of(controller string) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []request
	for _, req := range r.requests {
		if req.userAgent == controllers.UserAgentPrefix+controller && strings.Contains(req.path, "/namespaces/") {
			found = append(found, *req)
		}
	}
	return found
}

// writes returns all requests so far that may change something, events left out.
func (r *recorder) writes() []request {
	return r.filter(func(req request) bool { return req.write() && !req.event() })
}

// events returns the requests so far that tell events.
func (r *recorder) events() []request {
	return r.filter(request.event)
}

func (r *recorder) filter(keep func(request) bool) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []request
	for _, req := range r.requests {
		if keep(*req) {
			found = append(found, *req)
		}
	}
	return found
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
