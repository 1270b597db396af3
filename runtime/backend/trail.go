// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// HeaderTrail names the gateways that a request has passed through, the first one first, separated by commas. It is to gateways what
// CDN-Loop (RFC 8586) is to content delivery networks, and a field of its own for the same reason: Via (RFC 9110, section 7.6.3) is
// rewritten and dropped by others, and changes what some servers answer.
const HeaderTrail = "Vmcp-Gateways"

// maxTrail is the most gateways that a request passes through. A trail that long is a circle of gateways that forget their own names.
const maxTrail = 16

var gatewayID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Trail are the gateways that a request has passed through.
type Trail []string

// TrailOf reads the trail of a request. What is not the id of a gateway is left out: it comes from whoever called, and goes on to
// backends.
func TrailOf(header http.Header) Trail {
	var t Trail
	for _, value := range header.Values(HeaderTrail) {
		for id := range strings.SplitSeq(value, ",") {
			if id = strings.TrimSpace(id); gatewayID.MatchString(id) {
				t = append(t, id)
			}
		}
	}
	return t
}

// LeadsBack says that a request must not go on: it has been at the gateway of that id before, or at too many others.
func (t Trail) LeadsBack(id string) bool { return len(t) >= maxTrail || slices.Contains(t, id) }

// trailKey is the context key of a Trail.
type trailKey struct{}

// WithTrail makes a trail that of the requests to backends that are made on behalf of ctx.
func WithTrail(ctx context.Context, t Trail) context.Context {
	if len(t) == 0 {
		return ctx
	}
	return context.WithValue(ctx, trailKey{}, t)
}

// trailIn is the trail that requests made on behalf of ctx go on with.
func trailIn(ctx context.Context) Trail {
	t, _ := ctx.Value(trailKey{}).(Trail)
	return t
}

// leave puts the trail, and id at the end of it, on a copy of h.
func (t Trail) leave(h http.Header, id string) http.Header {
	h = maps.Clone(h)
	h[HeaderTrail] = []string{strings.Join(append(slices.Clone(t), id), ", ")}
	return h
}
