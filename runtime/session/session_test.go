// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/era"
	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 123456000, time.UTC)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, session.KeySize) }

func sealer(t *testing.T, uid string, k session.Keys) *session.Sealer {
	t.Helper()
	s := session.NewSealer(uid)
	if err := s.SetKeys(k); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIDs(t *testing.T) {
	s := session.NewSealer("uid")
	for _, version := range []string{"2025-03-26", "2025-06-18", "2025-11-25"} {
		for c := range era.Capabilities(128) {
			id := s.MintID("alice", version, c, now)
			got, err := s.OpenID("alice", id, now.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != version || got.Capabilities != c || !got.Issued.Equal(now) || !got.Expires().Equal(now.Add(8*time.Hour)) {
				t.Fatalf("got %+v", got)
			}
			for _, r := range id {
				if r < 0x21 || r > 0x7e {
					t.Fatalf("%q in an id", r)
				}
			}
		}
	}
	a, b := s.MintID("alice", "2025-11-25", 0, now), s.MintID("alice", "2025-11-25", 0, now)
	first, _ := s.OpenID("alice", a, now)
	second, _ := s.OpenID("alice", b, now)
	if a == b || first.Serial == second.Serial {
		t.Errorf("two sessions have one id: %s, %s", a, b)
	}
}

func TestForeignIDs(t *testing.T) {
	s := sealer(t, "uid", session.Keys{Current: key(1)})
	id := s.MintID("alice", "2025-11-25", 0, now)
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	for name, c := range map[string]struct {
		sealer    *session.Sealer
		principal string
		id        string
		at        time.Time
		ok        bool
	}{
		"own":                          {s, "alice", id, now, true},
		"another replica":              {sealer(t, "uid", session.Keys{Current: key(1)}), "alice", id, now, true},
		"of a clock that is ahead":     {s, "alice", id, now.Add(-30 * time.Second), true},
		"another principal":            {s, "bob", id, now, false},
		"nobody":                       {s, "", id, now, false},
		"another gateway":              {sealer(t, "other", session.Keys{Current: key(1)}), "alice", id, now, false},
		"another key":                  {sealer(t, "uid", session.Keys{Current: key(2)}), "alice", id, now, false},
		"at the end of its life":       {s, "alice", id, now.Add(8 * time.Hour), true},
		"after its life":               {s, "alice", id, now.Add(8*time.Hour + time.Second), false},
		"of the future":                {s, "alice", id, now.Add(-time.Hour), false},
		"changed":                      {s, "alice", base64.RawURLEncoding.EncodeToString(raw), now, false},
		"cut":                          {s, "alice", id[:len(id)-4], now, false},
		"longer":                       {s, "alice", id + "AAAA", now, false},
		"empty":                        {s, "alice", "", now, false},
		"no base64":                    {s, "alice", "~~~", now, false},
		"with a line break":            {s, "alice", id[:8] + "\n" + id[8:], now, false},
		"sealed for another purpose":   {s, "alice", s.Seal(session.PurposeCursor, "alice", make([]byte, 27)), now, false},
		"another layout":               {s, "alice", s.Seal(session.PurposeSession, "alice", make([]byte, 27)), now, false},
		"a revision that is no longer": {s, "alice", s.Seal(session.PurposeSession, "alice", append([]byte{1, 200}, make([]byte, 25)...)), now, false},
	} {
		if _, err := c.sealer.OpenID(c.principal, c.id, c.at); (err == nil) != c.ok || err != nil && !errors.Is(err, session.ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyRotation goes through the life of a key: it opens before it seals, and after.
func TestKeyRotation(t *testing.T) {
	old := sealer(t, "uid", session.Keys{Current: key(1), Next: key(2)})
	rotated := sealer(t, "uid", session.Keys{Previous: key(1), Current: key(2), Next: key(3)})
	later := sealer(t, "uid", session.Keys{Previous: key(2), Current: key(3)})
	for _, c := range []struct {
		name       string
		mint, open *session.Sealer
		ok         bool
	}{
		{"a replica that rotated later", rotated, old, true}, {"a replica that rotated first", old, rotated, true},
		{"two rotations back", old, later, false}, {"one rotation back", rotated, later, true},
	} {
		if _, err := c.open.OpenID("", c.mint.MintID("", "2025-11-25", 0, now), now); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	id := old.MintID("", "2025-11-25", 0, now)
	for name, k := range map[string]session.Keys{"none": {}, "short": {Current: key(1)[1:]}, "short next": {Current: key(1), Next: key(1)[1:]}} {
		if err := old.SetKeys(k); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := old.OpenID("", id, now); err != nil {
		t.Errorf("after keys that cannot be used: %v", err)
	}
}

func TestProcessKeysDiffer(t *testing.T) {
	if _, err := session.NewSealer("uid").OpenID("", session.NewSealer("uid").MintID("", "2025-11-25", 0, now), now); err == nil {
		t.Error("two processes without keys share one")
	}
}

func TestTombstones(t *testing.T) {
	s := session.NewSealer("uid")
	info := func(issued time.Time) session.Info {
		i, err := s.OpenID("", s.MintID("", "2025-11-25", 0, issued), issued)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	stones := &session.Tombstones{Limit: 40}
	var buried []session.Info
	for range 100 {
		i := info(now)
		if stones.Buried(i) || !stones.Bury(i, now) || stones.Bury(i, now) || !stones.Buried(i) {
			t.Fatal("a session does not end once")
		}
		buried = append(buried, i)
	}
	for n, i := range buried {
		if got, want := stones.Buried(i), n >= 60; got != want {
			t.Errorf("session %d: buried is %t", n, got)
		}
	}
	if stones.Len() != 40 {
		t.Errorf("%d are kept", stones.Len())
	}
	last := info(now.Add(9 * time.Hour))
	if stones.Bury(last, now.Add(9*time.Hour)); stones.Len() != 1 || !stones.Buried(last) {
		t.Errorf("%d are kept after the others' life", stones.Len())
	}
}

// FuzzOpen looks for text that opens though nobody sealed it.
func FuzzOpen(f *testing.F) {
	s := session.NewSealer("uid")
	f.Add(s.MintID("", "2025-11-25", 0, now))
	f.Add(session.NewSealer("uid").MintID("", "2025-11-25", 0, now))
	f.Add("")
	f.Add("AAAA")
	f.Add(string(bytes.Repeat([]byte("A"), 74)))
	minted := s.MintID("alice", "2025-11-25", 3, now)
	f.Add(minted)
	f.Fuzz(func(t *testing.T, id string) {
		if _, err := s.OpenID("alice", id, now); err == nil && id != minted {
			t.Fatalf("%q opens", id)
		}
		if content, err := s.Open(session.PurposeCursor, "alice", id); err == nil {
			t.Fatalf("%q opens as a cursor: %q", id, content)
		}
	})
}

// TestDerive: keys for another use are as many as there were, and no two are the same.
func TestDerive(t *testing.T) {
	k := session.Keys{Current: bytes.Repeat([]byte{1}, session.KeySize), Next: bytes.Repeat([]byte{2}, session.KeySize)}
	one, err := k.Derive("one")
	if err != nil || len(one.Current) != session.KeySize || len(one.Next) != session.KeySize || one.Previous != nil {
		t.Fatalf("%v, %v", one, err)
	}
	again, _ := k.Derive("one")
	two, _ := k.Derive("two")
	if !one.Equal(again) || bytes.Equal(one.Current, two.Current) || bytes.Equal(one.Current, one.Next) || bytes.Equal(one.Current, k.Current) {
		t.Errorf("%v, %v, %v", one, again, two)
	}
}
