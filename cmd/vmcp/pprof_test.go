// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestPprofHasAListenerOfItsOwn(t *testing.T) {
	t.Parallel()
	p := start(t, "serve", "-f", manifests(t, nil), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--pprof-listen", ":0")
	profiles := p.find(t, `Serving profiles" address=(127\.0\.0\.1:\d+)\n`)
	admin := p.find(t, `admin     http://(127\.0\.0\.1:\d+)/`)
	if code, text := get(t, "http://"+profiles+"/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(text, "goroutine profile:") {
		t.Errorf("goroutine profile: %d %s", code, text)
	}
	if code, _ := get(t, "http://"+admin+"/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("the port of the probes answers %d for profiles", code)
	}
	if code, _ := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func get(t *testing.T, url string) (code int, text string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
