// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package audit reads the audit log of an API server: one JSON document a line, audit.k8s.io/v1 Events of level Metadata.
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Event is the part of an audit.k8s.io/v1 Event that says who asked for what.
type Event struct {
	AuditID   string `json:"auditID"`
	Stage     string `json:"stage"`
	Verb      string `json:"verb"`
	UserAgent string `json:"userAgent"`
	User      struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		// Name is also that of a list or watch with a field selector for one name.
		Name     string `json:"name"`
		APIGroup string `json:"apiGroup"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// Agent is the user agent up to the first blank; client-go adds nothing to one that a program sets, others may.
func (e *Event) Agent() string {
	agent, _, _ := strings.Cut(e.UserAgent, " ")
	return agent
}

// Resource is the resource with its subresource, as RBAC writes it: virtualmcpservers/status.
func (e *Event) Resource() string {
	if e.ObjectRef.Subresource != "" {
		return e.ObjectRef.Resource + "/" + e.ObjectRef.Subresource
	}
	return e.ObjectRef.Resource
}

// Writes says whether the request may have changed something.
func (e *Event) Writes() bool {
	switch e.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	default:
		return false
	}
}

// Enumerates says whether the request asked for objects without naming one.
func (e *Event) Enumerates() bool {
	return (e.Verb == "list" || e.Verb == "watch" || e.Verb == "deletecollection") && e.ObjectRef.Name == ""
}

// Log reads an audit log that the API server may still be writing.
type Log struct {
	path   string
	offset int64
	// begun are the watches whose beginning was told: their end is the same request.
	begun map[string]struct{}
}

// Open returns a log from whose beginning Next reads.
func Open(path string) *Log { return &Log{path: path, begun: map[string]struct{}{}} }

// Next calls each with the requests that were logged since the last call, each request once. A line that is not complete yet is left
// for the next call.
func (l *Log) Next(each func(*Event)) error {
	file, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(l.offset, io.SeekStart); err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	lines := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the audit log: %w", err)
		}
		l.offset += int64(len(line))
		e := &Event{}
		if err := json.Unmarshal(bytes.TrimSpace(line), e); err != nil {
			return fmt.Errorf("line of the audit log at byte %d: %w", l.offset-int64(len(line)), err)
		}
		if l.first(e) {
			each(e)
		}
	}
}

// first says whether e is the first that is told of its request. A watch has two lines, one for its beginning.
func (l *Log) first(e *Event) bool {
	if e.Verb != "watch" || e.AuditID == "" {
		return true
	}
	if _, begun := l.begun[e.AuditID]; begun {
		delete(l.begun, e.AuditID)
		return false
	}
	if e.Stage == "ResponseStarted" {
		l.begun[e.AuditID] = struct{}{}
	}
	return true
}
