// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scorecard-tests is the image of our own tests for operator-sdk's scorecard: "scorecard-tests NAME" runs one of them in a pod
// and prints its result (scorecard.operatorframework.io/v1alpha3, TestStatus). The bundle is at /bundle. Tests that need a gateway make one
// in the namespace of their pod, where an operator has to be watching, with the rights of the ServiceAccount in config/scorecard/rbac.
//
// "scorecard-tests serve" is the MCP server that these gateways have as a backend.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/operator-framework/api/pkg/apis/scorecard/v1alpha3"
)

// testTimeout is less than the time that "make scorecard" gives a test, so that a test says itself what it waits for.
const testTimeout = 3 * time.Minute

// tests are the tests by name, as config/scorecard has them.
var tests = map[string]func(context.Context, *result) error{
	"vmcp-bundle":     testBundle,
	"vmcp-ownership":  testOwnership,
	"vmcp-restricted": testRestricted,
	"vmcp-degraded":   testDegraded,
	"vmcp-deletion":   testDeletion,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scorecard-tests:", err)
		os.Exit(1) //nolint:gocritic // Nothing is left to clean up: stop is for signals.
	}
}

func run(ctx context.Context, args []string) error {
	names := slices.Sorted(maps.Keys(tests))
	if len(args) != 1 {
		return fmt.Errorf("want the name of a test (%s), or serve", strings.Join(names, ", "))
	}
	if args[0] == "serve" {
		return serve(ctx)
	}
	test, there := tests[args[0]]
	if !there {
		return fmt.Errorf("there is no test %q; there are %s", args[0], strings.Join(names, ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	r := &result{}
	return json.NewEncoder(os.Stdout).Encode(v1alpha3.TestStatus{Results: []v1alpha3.TestResult{r.conclude(args[0], test(ctx, r))}})
}

// result collects what a test finds.
type result struct {
	log         strings.Builder
	errors      []string
	suggestions []string
}

// logf notes what was seen.
func (r *result) logf(format string, args ...any) {
	fmt.Fprintf(&r.log, format+"\n", args...)
}

// fail says that something is not as it has to be, and what to do about it.
func (r *result) fail(suggestion, format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
	if !slices.Contains(r.suggestions, suggestion) {
		r.suggestions = append(r.suggestions, suggestion)
	}
}

// conclude is the result for scorecard. An error of the test itself says nothing about the operator, unless what was waited for did not come.
func (r *result) conclude(name string, err error) v1alpha3.TestResult {
	state := v1alpha3.PassState
	if len(r.errors) > 0 {
		state = v1alpha3.FailState
	}
	if late, ok := errors.AsType[*waitError](err); ok {
		state = v1alpha3.FailState
		r.suggestions = append(r.suggestions, late.suggestion)
	} else if err != nil {
		state = v1alpha3.ErrorState
	}
	if err != nil {
		r.errors = append(r.errors, err.Error())
	}
	return v1alpha3.TestResult{Name: name, State: state, Log: r.log.String(), Errors: r.errors, Suggestions: r.suggestions}
}
