// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		figures []float64
		want    spread
	}{
		{[]float64{2}, spread{2, 2, 2}},
		{[]float64{3, 1, 2}, spread{2, 1, 3}},
		{[]float64{4, 1, 3, 2}, spread{2.5, 1, 4}},
	} {
		if got := spreadOf(c.figures); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.figures, got, c.want)
		}
	}
}

func TestSlope(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    float64
	}{
		{[]float64{5, 5, 5, 5}, 0},
		{[]float64{1, 3, 5, 7}, 2},
		{[]float64{0, 10, 0, 10, 0}, 0},
	} {
		if got := slope(c.samples); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %g, want %g", c.samples, got, c.want)
		}
	}
}

func TestFlat(t *testing.T) {
	steady, rising := make([]float64, soakTurns), make([]float64, soakTurns)
	for i := range soakTurns {
		steady[i], rising[i] = 100, 100
		if i < soakWarmUp {
			steady[i] = float64(i) // growth while pools fill is no leak
		} else {
			rising[i] += float64(i)
		}
	}
	if err := flat([]*level{{name: "a", unit: 1, allowed: 8, samples: steady}}); err != nil {
		t.Error(err)
	}
	if err := flat([]*level{{name: "a", unit: 1, allowed: 8, samples: steady}, {name: "b", unit: 1, allowed: 8, samples: rising}}); err == nil ||
		!strings.HasSuffix(err.Error(), ": b") {
		t.Errorf("a rising level: %v", err)
	}
}

// The rows with a target are those of the project's table of numbers.
func TestCellsWithATarget(t *testing.T) {
	n := 0
	for _, c := range cells() {
		if c.rate == 0 {
			continue
		}
		n++
		if c.client != c.server || c.stream || c.clients != 16 {
			t.Errorf("%s has a target", c)
		}
	}
	if n != 4 {
		t.Errorf("%d cells have a target, want 4", n)
	}
}
