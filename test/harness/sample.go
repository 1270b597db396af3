// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// sampleTimeout bounds one read of a sampled object.
const sampleTimeout = 5 * time.Second

// Sample reads one object, by its path at the API server, at an interval until ctx ends. A read that fails ends it.
func Sample[T any](ctx context.Context, k Kubectl, path string, interval time.Duration) (*History[T], error) {
	api, err := ForwardAPI(ctx, k)
	if err != nil {
		return nil, err
	}
	h := &History[T]{grown: make(chan struct{})}
	go func() {
		defer api.Close()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			object, err := read[T](ctx, "http://"+api.Address+path)
			if err != nil {
				h.end(err)
				return
			}
			h.add(State[T]{At: time.Now(), Object: object})
			select {
			case <-ctx.Done():
				h.end(ctx.Err())
				return
			case <-ticker.C:
			}
		}
	}()
	return h, nil
}

func read[T any](ctx context.Context, url string) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("reading %s: %s: %s", url, response.Status, body)
	}
	object := new(T)
	if err := json.Unmarshal(body, object); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", url, err)
	}
	return object, nil
}
