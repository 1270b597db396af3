// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/vmcp-dev/vmcp-operator/test/audit"
)

func TestLogIsReadAsItGrows(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	var content string
	write := func(text string) {
		content += text
		g.Expect(os.WriteFile(path, []byte(content), 0o600)).To(Succeed())
	}
	log := audit.Open(path)
	next := func() []string {
		var told []string
		g.Expect(log.Next(func(e *audit.Event) {
			told = append(told, fmt.Sprintf("%s %s %s %s/%s %d", e.Agent(), e.Verb, e.Resource(), e.ObjectRef.Namespace, e.ObjectRef.Name, e.ResponseStatus.Code))
		})).To(Succeed())
		return told
	}
	g.Expect(log.Next(func(*audit.Event) {})).NotTo(Succeed(), "no file")

	write(`{"auditID":"1","stage":"ResponseComplete","verb":"patch","userAgent":"vmcp-operator/virtualmcpserver","objectRef":` +
		`{"resource":"virtualmcpservers","subresource":"status","namespace":"a","name":"g","apiGroup":"vmcp.dev"},"responseStatus":{"code":409}}` + "\n" +
		`{"auditID":"2","stage":"ResponseStarted","verb":"watch","userAgent":"kubectl/v1 (linux)","objectRef":{"resource":"secrets"},"respon`)
	g.Expect(next()).To(Equal([]string{"vmcp-operator/virtualmcpserver patch virtualmcpservers/status a/g 409"}))
	write(`seStatus":{"code":200}}` + "\n")
	g.Expect(next()).To(Equal([]string{"kubectl/v1 watch secrets / 200"}))
	write(`{"auditID":"2","stage":"ResponseComplete","verb":"watch"}` + "\n" +
		`{"auditID":"3","stage":"ResponseComplete","verb":"watch","userAgent":"x","objectRef":{"resource":"secrets","name":"n"},"responseStatus":{"code":403}}` + "\n" +
		`{"auditID":"4","stage":"ResponseComplete","verb":"get","userAgent":"x"}` + "\n")
	g.Expect(next()).To(Equal([]string{"x watch secrets /n 403", "x get  / 0"}), "the end of a watch is no request")
	g.Expect(next()).To(BeEmpty())
	write("not JSON\n")
	g.Expect(log.Next(func(*audit.Event) {})).To(MatchError(ContainSubstring("line of the audit log at byte")))
}

func TestWhatARequestMayDo(t *testing.T) {
	t.Parallel()
	for verb, want := range map[string]struct{ writes, enumerates, enumeratesNamed bool }{
		"get":              {},
		"list":             {enumerates: true},
		"watch":            {enumerates: true},
		"create":           {writes: true},
		"update":           {writes: true},
		"patch":            {writes: true},
		"delete":           {writes: true},
		"deletecollection": {writes: true, enumerates: true},
	} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			e := audit.Event{Verb: verb}
			g.Expect(e.Writes()).To(Equal(want.writes))
			g.Expect(e.Enumerates()).To(Equal(want.enumerates))
			e.ObjectRef.Name = "name"
			g.Expect(e.Enumerates()).To(Equal(want.enumeratesNamed))
		})
	}
}
