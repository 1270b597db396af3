// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import "context"

type answeredKey struct{}

// WithAnswered has answered called whenever the backend answers a request that is made with the context, be it with an error: what takes
// several requests, such as a probe that opens a session, may be slow without being dead. Calls may come from several goroutines.
func WithAnswered(ctx context.Context, answered func()) context.Context {
	return context.WithValue(ctx, answeredKey{}, answered)
}

// answeredIn is the function of WithAnswered, or nil.
func answeredIn(ctx context.Context) func() {
	answered, _ := ctx.Value(answeredKey{}).(func())
	return answered
}
