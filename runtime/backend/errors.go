// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// RPCError is a JSON-RPC error that a backend answered with. Data is the backend's own JSON, nil if it sent none.
type RPCError struct {
	Code    int
	Message string
	Data    json.RawMessage
}

// Error implements error.
func (e *RPCError) Error() string { return fmt.Sprintf("MCP error %d: %s", e.Code, e.Message) }

// JSON-RPC error codes that the gateway looks at or makes (JSON-RPC 2.0 section 5.1; MCP 2026-07-28, basic, error codes).
const (
	CodeInvalidParams              = -32602
	CodeMethodNotFound             = -32601
	CodeInternalError              = -32603
	CodeResourceNotFound           = -32002
	CodeHeaderMismatch             = -32020
	CodeMissingCapability          = -32021
	CodeUnsupportedProtocolVersion = -32022
)

// ErrNotServed is a call to a backend that the gateway does not call at present, because the verdict on it is that it is not
// served, or because it is gone.
var ErrNotServed = errors.New("the backend is not served at present")

// ReasonNotServed is the reason of ErrNotServed. It never stands in a status, where the cause stands.
const ReasonNotServed = "NotServed"

// StatusError is an HTTP answer whose status says that the request failed and whose body is no JSON-RPC message.
type StatusError struct {
	// Endpoint is the address without user information and query.
	Endpoint string
	// Method is the MCP method that was asked, for example initialize; "" when the request was none.
	Method string
	Status int
	// AuthConfig names the MCPExternalAuthConfig whose credentials the request carried; "" when it carried none.
	AuthConfig string
	// WantsTLS says that the answer is that of a TLS server to a request without TLS.
	WantsTLS bool
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %s to %s", e.Endpoint, statusText(e.Status), requestOf(e.Method))
}

// unauthorized says that the backend refused the credentials, or wants some.
func unauthorized(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && (status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden)
}

// NotMCPError is an answer that no MCP server gives, for example a web page.
type NotMCPError struct {
	// Endpoint is the address without user information and query.
	Endpoint string
	// Method is the MCP method that was asked.
	Method string
	// Problem says what is wrong with the answer, for example `content type text/html`.
	Problem string
}

// Error implements error.
func (e *NotMCPError) Error() string {
	return fmt.Sprintf("%s answered %s with something that is not MCP: %s", e.Endpoint, requestOf(e.Method), e.Problem)
}

// redirectError is a redirect that must not be followed.
type redirectError struct {
	Endpoint string
	Problem  string
}

func (e *redirectError) Error() string { return fmt.Sprintf("%s %s", e.Endpoint, e.Problem) }

// versionError is a negotiated revision that this client does not speak.
type versionError struct{ Version string }

func (e *versionError) Error() string {
	return fmt.Sprintf("the backend chose MCP revision %q, which the gateway does not speak", e.Version)
}

// refusedError is a call to a backend that discovery said must not be called.
type refusedError struct{ Refusal }

func (e *refusedError) Error() string { return "backend refused: " + e.Message }

var (
	// errSessionLost says that the backend no longer knows the session. It did not process the request.
	errSessionLost = errors.New("the backend no longer knows the session")
	// errClosed says that the client was closed.
	errClosed = errors.New("the client of the backend is closed")
	// errMalformed says that a result is not what MCP prescribes.
	errMalformed = errors.New("the result is malformed")
	// errTooLarge says that an answer exceeds the limit on its size.
	errTooLarge = errors.New("the answer exceeds the size limit")
)

func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return fmt.Sprintf("%d %s", status, text)
	}
	return fmt.Sprintf("status %d", status)
}

func requestOf(method string) string {
	if method == "" {
		return "an MCP request"
	}
	article := "a"
	switch method[0] {
	case 'a', 'e', 'i', 'o', 'u':
		article = "an"
	}
	if method == methodInitialize || method == methodDiscover {
		return "an MCP " + method + " request"
	}
	return article + " " + method + " request"
}
