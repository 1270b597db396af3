// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

func sessionKey(b byte) []byte { return bytes.Repeat([]byte{b}, session.KeySize) }

// TestSessionKeysFollowTheirFolder through the life of a Secret that appears late, is rotated, and is broken for a while.
func TestSessionKeysFollowTheirFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	write := func(files map[string][]byte) {
		t.Helper()
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var mu sync.Mutex
		var used []session.Keys
		sealer := session.NewSealer("uid")
		k := &keyring{dir: dir, logger: slog.New(slog.NewTextHandler(&log, nil)), use: func(k session.Keys) error {
			if err := sealer.SetKeys(k); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			used = append(used, k)
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		begun, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			k.run(ctx, func() { close(begun) })
		}()
		<-begun
		// looked is the keys in use after some looks, and how many were before them.
		looked := func() (now session.Keys, before int) {
			time.Sleep(3 * keysInterval) // of the bubble's clock
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(used) == 0 {
				return session.Keys{}, 0
			}
			return used[len(used)-1], len(used) - 1
		}
		expect := func(what string, want session.Keys) (before int) {
			t.Helper()
			now, before := looked()
			if !now.Equal(want) {
				t.Errorf("%s: not the keys that are wanted; %d were used before", what, before)
			}
			return before
		}
		expect("no folder", session.Keys{})
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		expect("an empty folder", session.Keys{})
		first := session.Keys{Current: sessionKey(1)}
		write(map[string][]byte{"current": first.Current})
		expect("the first key", first)
		second := session.Keys{Previous: sessionKey(1), Current: sessionKey(2), Next: sessionKey(3)}
		write(map[string][]byte{"previous": second.Previous, "current": second.Current, "next": second.Next})
		count := expect("the rotated keys", second)
		write(map[string][]byte{"current": []byte("short")})
		if n := expect("a key that is none", second); n != count {
			t.Errorf("keys were used %d times though they did not change", n-count)
		}
		if n := strings.Count(log.String(), "has 5 bytes"); n != 1 {
			t.Errorf("the broken key was logged %d times: %s", n, log.String())
		}
		cancel()
		<-ended
	})
}
