// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
)

// sessionKeyOf is a key that tells which one it is; 0 is none.
func sessionKeyOf(b byte) []byte {
	if b == 0 {
		return nil
	}
	return bytes.Repeat([]byte{b}, configv1alpha1.SessionKeySize)
}

func TestSessionKeysTurn(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	in := start.Add
	// keys are previous, current and next; those that are made anew are 100, 101, …
	keys := func(previous, current, next byte, rotated, added time.Duration, request string) sessionKeys {
		return sessionKeys{sessionKeyOf(previous), sessionKeyOf(current), sessionKeyOf(next), in(rotated), in(added), request}
	}
	const hour = time.Hour
	for name, c := range map[string]struct {
		have    sessionKeys
		request string
		at      time.Duration
		want    sessionKeys
		due     time.Duration
	}{
		"the first":                            {sessionKeys{}, "", 0, keys(0, 100, 101, 0, 0, ""), 24 * hour},
		"the first, with a request":            {sessionKeys{}, "a", 0, keys(0, 100, 101, 0, 0, "a"), 24 * hour},
		"nothing due":                          {keys(0, 1, 2, 0, 0, ""), "", 23 * hour, keys(0, 1, 2, 0, 0, ""), 24 * hour},
		"rotation":                             {keys(0, 1, 2, 0, 0, ""), "", 24 * hour, keys(1, 2, 100, 24*hour, 24*hour, ""), 33 * hour},
		"rotation, long overdue, once":         {keys(0, 1, 2, 0, 0, ""), "", 240 * hour, keys(1, 2, 100, 240*hour, 240*hour, ""), 249 * hour},
		"the previous key is needed":           {keys(1, 2, 3, 0, 0, ""), "", 9*hour - time.Second, keys(1, 2, 3, 0, 0, ""), 9 * hour},
		"the previous key is dropped":          {keys(1, 2, 3, 0, 0, ""), "", 9 * hour, keys(0, 2, 3, 0, 0, ""), 24 * hour},
		"dropped and rotated in one":           {keys(1, 2, 3, 0, 0, ""), "", 30 * hour, keys(2, 3, 100, 30*hour, 30*hour, ""), 39 * hour},
		"request":                              {keys(0, 1, 2, 0, 0, ""), "a", 10 * hour, keys(1, 2, 100, 10*hour, 10*hour, "a"), 19 * hour},
		"request, carried out":                 {keys(0, 1, 2, 0, 0, "a"), "a", 10 * hour, keys(0, 1, 2, 0, 0, "a"), 24 * hour},
		"request, taken back":                  {keys(0, 1, 2, 0, 0, "a"), "", 10 * hour, keys(0, 1, 2, 0, 0, "a"), 24 * hour},
		"request, the next key is too young":   {keys(0, 1, 2, 0, 0, "a"), "b", hour - time.Second, keys(0, 1, 2, 0, 0, "a"), hour},
		"request, the next key is old enough":  {keys(0, 1, 2, 0, 0, "a"), "b", hour, keys(1, 2, 100, hour, hour, "b"), 10 * hour},
		"request, the previous key is needed":  {keys(1, 2, 3, 0, 0, "a"), "b", 8 * hour, keys(1, 2, 3, 0, 0, "a"), 9 * hour},
		"request, the previous key is not":     {keys(1, 2, 3, 0, 0, "a"), "b", 9 * hour, keys(2, 3, 100, 9*hour, 9*hour, "b"), 18 * hour},
		"no next key":                          {keys(1, 2, 0, 0, 0, ""), "", 5 * hour, keys(1, 2, 100, 0, 5*hour, ""), 9 * hour},
		"no next key when a rotation is due":   {keys(0, 1, 0, 0, 0, ""), "", 30 * hour, keys(0, 1, 100, 0, 30*hour, ""), 31 * hour},
		"no current key":                       {keys(1, 0, 3, 0, 0, ""), "", 5 * hour, keys(1, 3, 100, 5*hour, 5*hour, ""), 14 * hour},
		"no current key, the next is young":    {keys(1, 0, 3, 0, 0, ""), "", hour - 1, keys(1, 100, 3, hour-time.Second, 0, ""), 10*hour - time.Second},
		"no key but the previous one":          {keys(1, 0, 0, 0, 0, ""), "", hour, keys(1, 100, 101, hour, hour, ""), 10 * hour},
		"unknown times":                        {sessionKeys{previous: sessionKeyOf(1), current: sessionKeyOf(2), next: sessionKeyOf(3)}, "", hour, keys(1, 2, 3, hour, hour, ""), 10 * hour},
		"times of the far future":              {keys(0, 1, 2, 999*hour, 999*hour, ""), "", hour, keys(0, 1, 2, hour, hour, ""), 25 * hour},
		"times of a clock that is ahead a bit": {keys(0, 1, 2, hour/2, hour/2, ""), "", 0, keys(0, 1, 2, hour/2, hour/2, ""), 24*hour + hour/2},
	} {
		t.Run(name, func(t *testing.T) {
			made := byte(99)
			got, due := c.have.turn(c.request, in(c.at), func() []byte { made++; return sessionKeyOf(made) })
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got\n%v, want\n%v", got, c.want)
			}
			if !due.Equal(in(c.due)) {
				t.Errorf("due after %s, want %s", due.Sub(start), c.due)
			}
			if again, _ := got.turn(c.request, in(c.at), func() []byte { t.Error("a key is made in vain"); return nil }); !reflect.DeepEqual(again, got) {
				t.Errorf("at the same time it turns on to\n%v", again)
			}
		})
	}
}

// TestNoRotationEndsASession goes through a month with requests and losses at bad moments, of pods that get what the Secret holds up to an hour late.
// Each session, begun at any pod, is known to every pod as long as it lasts.
func TestNoRotationEndsASession(t *testing.T) {
	const (
		step  = 10 * time.Minute
		steps = int(30 * 24 * time.Hour / step)
		life  = int(configv1alpha1.SessionLife / step)
		late  = int(sessionKeySpread / step)
	)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var history []sessionKeys // what the Secret holds, by step
	made, request, rotations := byte(0), "", 0
	var k sessionKeys
	var due time.Time
	for n := range steps {
		at := start.Add(time.Duration(n) * step)
		switch n % 97 {
		case 49:
			k.next = nil // somebody deletes it
		case 50:
			request = at.String()
		}
		before := k
		if k, due = k.turn(request, at, func() []byte { made++; return sessionKeyOf(made) }); !bytes.Equal(before.current, k.current) {
			rotations++
		}
		if !due.After(at) {
			t.Fatalf("at %s it is due at %s", at, due)
		}
		history = append(history, k)
	}
	if rotations < 30 {
		t.Errorf("%d rotations", rotations)
	}
	knows := func(k sessionKeys, key []byte) bool {
		return bytes.Equal(key, k.current) || bytes.Equal(key, k.previous) || bytes.Equal(key, k.next)
	}
	for n := late; n < steps; n++ {
		// A pod that has the oldest or the newest keys seals, and it is opened by one that has any, at any later time of its life.
		for _, sealing := range []int{n - late, n} {
			for m := n; m < min(n+life+1, steps); m++ {
				for _, opening := range []int{m - late, m} {
					if !knows(history[opening], history[sealing].current) {
						t.Fatalf("a session begun at step %d with the keys of %d is not known at step %d with the keys of %d", n, sealing, m, opening)
					}
				}
			}
		}
	}
}

func TestSessionKeysOfSecret(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	server := &v1alpha1.VirtualMCPServer{ObjectMeta: metav1.ObjectMeta{Name: "gateway", Namespace: "tools", UID: "uid"}}
	for name, want := range map[string]sessionKeys{
		"all":            {sessionKeyOf(1), sessionKeyOf(2), sessionKeyOf(3), at, at.Add(-time.Hour), "now"},
		"no previous":    {nil, sessionKeyOf(2), sessionKeyOf(3), at, at, ""},
		"another's zone": {nil, sessionKeyOf(2), sessionKeyOf(3), at.In(time.FixedZone("", 7200)), at, ""},
	} {
		intent := newSessionKeysSecret(server, want)
		got := sessionKeysOf(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Annotations: intent.Annotations}, Data: intent.Data})
		want.rotated = want.rotated.UTC()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%v, want\n%v", name, got, want)
		}
	}
	damaged := sessionKeysOf(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.SessionKeysRotatedAnnotation: "yesterday"}},
		Data:       map[string][]byte{"current": sessionKeyOf(1)[1:], "previous": {}, "next": append(sessionKeyOf(2), 0)},
	})
	if !reflect.DeepEqual(damaged, sessionKeys{}) {
		t.Errorf("damaged: %v", damaged)
	}
}
