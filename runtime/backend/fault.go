// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"unicode"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/auth"
)

// maxQuoted is the most runes of a backend's own words that a Fault quotes.
const maxQuoted = 200

// Fault is an error of a backend, put for people. The zero Fault is no error.
type Fault struct {
	// Reason is one of the v1alpha1 reasons of an entry of status.discoveredBackends.
	Reason string
	// Message is a sentence for the status of the VirtualMCPServer. It may name host and port; it holds no credentials.
	Message string
	// Public is a sentence for MCP clients. It names the backend, never its address.
	Public string
	// Unauthorized says that the backend refused the credentials, or wants some.
	Unauthorized bool
}

// Classify puts an error of Client for people. Errors that it does not know become ReasonConnectionFailed. A nil error gives
// the zero Fault.
func Classify(key Key, err error) Fault {
	if err == nil {
		return Fault{}
	}
	reason, message, public := classify(err)
	return Fault{
		Reason:       reason,
		Message:      message,
		Public:       fmt.Sprintf("backend %q %s", key.Name, public),
		Unauthorized: reason == v1alpha1.ReasonUnauthorized,
	}
}

// classify tries the specific before the general: a TLS or DNS failure is a network error as well.
func classify(err error) (reason, message, public string) {
	for _, try := range []func(error) (string, string, string, bool){classifyAnswer, classifyTLS, classifyNetwork} {
		if reason, message, public, ok := try(err); ok {
			return reason, message, public
		}
	}
	return v1alpha1.ReasonConnectionFailed, endpointOf(err) + " cannot be used: " + quote(rootCause(err)), "cannot be reached"
}

// classifyAnswer judges errors of a backend that answered.
func classifyAnswer(err error) (reason, message, public string, ok bool) {
	var (
		status   *StatusError
		notMCP   *NotMCPError
		rpc      *RPCError
		redirect *redirectError
		origin   *auth.OriginError
		version  *versionError
		refused  *refusedError
	)
	switch {
	case errors.Is(err, ErrNotServed):
		return ReasonNotServed, err.Error(), "is not served at present", true
	case errors.As(err, &refused):
		return refused.Reason, refused.Message, "is not used: its definition is refused", true
	case errors.As(err, &status):
		reason, message, public = classifyStatus(status)
		return reason, message, public, true
	case errors.As(err, &notMCP):
		return v1alpha1.ReasonNotMCP,
			notMCP.Error() + "; check the address, and that an MCP server listens there", "does not speak MCP", true
	case errors.As(err, &redirect):
		return v1alpha1.ReasonNotMCP, redirect.Error(), "redirects elsewhere", true
	case errors.As(err, &origin):
		return v1alpha1.ReasonNotMCP, origin.Error() + "; name the final address in the backend's definition", "redirects elsewhere", true
	case errors.As(err, &rpc):
		return v1alpha1.ReasonProtocolError, "the backend answered " + quote(rpc), "answered with an MCP error", true
	case errors.As(err, &version):
		return v1alpha1.ReasonProtocolError, version.Error(), "speaks another revision of MCP", true
	case errors.Is(err, errSessionLost):
		return v1alpha1.ReasonProtocolError, "the backend ends every session at once", "ends every session at once", true
	case errors.Is(err, errMalformed):
		return v1alpha1.ReasonProtocolError, quote(err), "answered with a malformed result", true
	case errors.Is(err, errTooLarge):
		return v1alpha1.ReasonProtocolError, "the backend answered with more bytes than the gateway takes", "answered with too many bytes", true
	}
	return "", "", "", false
}

func classifyStatus(e *StatusError) (reason, message, public string) {
	switch {
	case unauthorized(e) && e.AuthConfig != "":
		return v1alpha1.ReasonUnauthorized,
			fmt.Sprintf("%v: it refuses the credentials of MCPExternalAuthConfig %q", e, e.AuthConfig), "refuses the gateway's credentials"
	case unauthorized(e):
		return v1alpha1.ReasonUnauthorized,
			e.Error() + ": it wants other credentials; name an MCPExternalAuthConfig in the backend's externalAuthConfigRef, " +
				"or in spec.outgoingAuth of the VirtualMCPServer", "refuses the gateway's credentials"
	case e.Status == http.StatusRequestTimeout || e.Status == http.StatusGatewayTimeout:
		return v1alpha1.ReasonTimeout, e.Error(), "did not answer in time"
	case e.Status >= 500 || e.Status == http.StatusTooManyRequests:
		return v1alpha1.ReasonConnectionFailed, e.Error(), "cannot take requests at the moment"
	case e.Method == methodInitialize || e.Method == "":
		return v1alpha1.ReasonNotMCP, e.Error() + ": check the path, and that an MCP server listens there", "does not speak MCP"
	default:
		return v1alpha1.ReasonProtocolError, e.Error(), "refused the request"
	}
}

func classifyTLS(err error) (reason, message, public string, ok bool) {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		unknown      x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		roots        x509.SystemRootsError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &record), errors.As(err, &alert), errors.As(err, &unknown),
		errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &roots), errors.Is(err, http.ErrSchemeMismatch):
		return v1alpha1.ReasonTLSFailed, "the TLS handshake with " + endpointOf(err) + " failed: " + quote(rootCause(err)),
			"cannot be reached over TLS", true
	}
	return "", "", "", false
}

func classifyNetwork(err error) (reason, message, public string, ok bool) {
	var (
		dns    *net.DNSError
		netErr net.Error
	)
	endpoint := endpointOf(err)
	switch {
	case errors.As(err, &dns) && !dns.IsTimeout:
		return v1alpha1.ReasonNameNotResolved, fmt.Sprintf("the host name %q is unknown", quoteText(dns.Name)), "cannot be found", true
	case errors.Is(err, syscall.ECONNREFUSED):
		return v1alpha1.ReasonConnectionRefused, "nothing listens at " + endpoint + ": connection refused", "is not running", true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return v1alpha1.ReasonTimeout, endpoint + " did not answer in time", "did not answer in time", true
	case errors.Is(err, context.Canceled):
		return v1alpha1.ReasonConnectionFailed, "the request to " + endpoint + " was cancelled", "was not waited for", true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return v1alpha1.ReasonConnectionFailed, endpoint + " closed the connection before it answered", "closed the connection", true
	case strings.Contains(err.Error(), "malformed HTTP"): // net/http has no type for it
		return v1alpha1.ReasonNotMCP, endpoint + " does not speak HTTP: check the port, and whether the URL should begin with https",
			"does not speak MCP", true
	}
	return "", "", "", false
}

// endpointOf names the address of a request that failed, without user information and query, which may hold credentials.
func endpointOf(err error) string {
	if request, ok := errors.AsType[*url.Error](err); ok {
		if u, parseErr := url.Parse(request.URL); parseErr == nil {
			return endpoint(u)
		}
	}
	return "the backend"
}

// endpoint is the part of an address that may be shown.
func endpoint(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// rootCause drops the wrappings that repeat the URL with its query.
func rootCause(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

func quote(err error) string { return quoteText(err.Error()) }

// quoteText bounds foreign words and takes control characters out of them, so that they cannot forge lines of a log or status.
func quoteText(s string) string {
	var b strings.Builder
	for i, r := range []rune(strings.ToValidUTF8(s, "?")) {
		switch {
		case i == maxQuoted:
			b.WriteString("…")
			return b.String()
		case unicode.IsControl(r):
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
