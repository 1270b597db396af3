// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/mark3labs/mcp-go/mcp"

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
	// Unreachable says that there was no connection, or that it was cut: nothing answered, be it with an error.
	Unreachable bool
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
		Unreachable:  slices.Contains(unreachable, reason),
	}
}

// unreachable are the reasons for which there is no connection.
var unreachable = []string{
	v1alpha1.ReasonConnectionRefused, v1alpha1.ReasonConnectionFailed, v1alpha1.ReasonNameNotResolved, v1alpha1.ReasonTLSFailed,
	v1alpha1.ReasonCertificateUntrusted, v1alpha1.ReasonCertificateExpired, v1alpha1.ReasonCertificateNameMismatch,
	v1alpha1.ReasonClientCertificateRequired,
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
		return v1alpha1.ReasonRedirected, redirect.Error(), "redirects elsewhere", true
	case errors.As(err, &origin):
		return v1alpha1.ReasonRedirected, origin.Error() + "; name the final address in the backend's definition", "redirects elsewhere", true
	case errors.As(err, &rpc):
		if refusesVersion(rpc) {
			return v1alpha1.ReasonUnsupportedVersion, "the backend takes none of the MCP revisions that the gateway speaks: it answered " + quote(rpc) + supportedBy(rpc),
				"speaks another revision of MCP", true
		}
		return v1alpha1.ReasonProtocolError, "the backend answered " + quote(rpc), "answered with an MCP error", true
	case errors.As(err, &version):
		return v1alpha1.ReasonUnsupportedVersion, version.Error(), "speaks another revision of MCP", true
	case errors.Is(err, errSessionLost):
		return v1alpha1.ReasonProtocolError, "the backend ends every session at once", "ends every session at once", true
	case errors.Is(err, errMalformed):
		return v1alpha1.ReasonProtocolError, quote(err), "answered with a malformed result", true
	case errors.Is(err, errTooLarge):
		return v1alpha1.ReasonProtocolError, "the backend answered with more bytes than the gateway takes", "answered with too many bytes", true
	}
	return "", "", "", false
}

// refusesVersion says that an error is about the MCP revision, and that the server speaks none of the gateway's: it has the code of the
// modern era, or that of initialize with what is prescribed as data (MCP 2025-11-25, lifecycle, error handling).
func refusesVersion(e *RPCError) bool {
	supported := supportedVersions(e)
	if slices.ContainsFunc(supported, mcp.IsValidProtocolVersion) {
		return false // then it is something else that it does not like
	}
	return e.Code == CodeUnsupportedProtocolVersion || e.Code == CodeInvalidParams && len(supported) > 0
}

// supportedVersions are the revisions that a server which refuses one says that it speaks.
func supportedVersions(e *RPCError) []string {
	var data struct {
		Supported []string `json:"supported"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return nil
	}
	return data.Supported
}

func supportedBy(e *RPCError) string {
	if versions := supportedVersions(e); len(versions) > 0 {
		return "; it speaks " + quoteText(strings.Join(versions, ", "))
	}
	return ""
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
		return v1alpha1.ReasonServerError, e.Error(), "cannot take requests at the moment"
	case e.WantsTLS:
		return v1alpha1.ReasonTLSFailed, e.Endpoint + " speaks TLS only: the URL has to begin with https", "cannot be reached over TLS"
	case e.Method == methodInitialize || e.Method == "":
		return v1alpha1.ReasonNotMCP, e.Error() + ": check the path, and that an MCP server listens there", "does not speak MCP"
	default:
		return v1alpha1.ReasonProtocolError, e.Error(), "refused the request"
	}
}

func classifyTLS(err error) (reason, message, public string, ok bool) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	at, cause, alert := endpointOf(err), quote(rootCause(err)), remoteAlert(err)
	public, ok = "cannot be reached over TLS", true
	switch {
	case errors.As(err, &unknown):
		return v1alpha1.ReasonCertificateUntrusted, fmt.Sprintf("the certificate of %s is not trusted: %s", at, cause), public, ok
	case errors.As(err, &hostname):
		return v1alpha1.ReasonCertificateNameMismatch, fmt.Sprintf("the certificate of %s is for another name: %s", at, cause), public, ok
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return v1alpha1.ReasonCertificateExpired, fmt.Sprintf("the certificate of %s has expired, or is not valid yet: %s", at, cause), public, ok
	case alert == "certificate required", alert == "bad certificate": // RFC 8446, section 6.2; the gateway shows none that could be bad
		return v1alpha1.ReasonClientCertificateRequired, fmt.Sprintf("%s wants a client certificate, and the gateway has none", at),
			"wants a client certificate", ok
	case alert == "handshake failure": // all that TLS 1.2 says of it (RFC 5246, section 7.4.6)
		return v1alpha1.ReasonTLSFailed, fmt.Sprintf("the TLS handshake with %s failed: it wants a client certificate, or there is no common cipher suite", at),
			public, ok
	case isTLS(err):
		return v1alpha1.ReasonTLSFailed, fmt.Sprintf("the TLS handshake with %s failed: %s", at, cause), public, ok
	}
	return "", "", "", false
}

// remoteAlert is the other side's TLS alert, for example "certificate required"; "" for another error. crypto/tls exports a type for
// alerts that QUIC alone uses.
func remoteAlert(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		if alert, ok := strings.CutPrefix(op.Err.Error(), "tls: "); ok {
			return alert
		}
	}
	return ""
}

// isTLS says that an error is one of TLS.
func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		roots        x509.SystemRootsError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &roots) || errors.Is(err, http.ErrSchemeMismatch) ||
		remoteAlert(err) != "" || strings.HasPrefix(rootCause(err).Error(), "tls: ") // as what crypto/tls has no type for begins
}

func classifyNetwork(err error) (reason, message, public string, ok bool) {
	var (
		dns    *net.DNSError
		netErr net.Error
	)
	endpoint := endpointOf(err)
	switch {
	case errors.As(err, &dns):
		return v1alpha1.ReasonNameNotResolved, unresolved(dns), "cannot be found", true
	case errors.Is(err, syscall.ECONNREFUSED):
		return v1alpha1.ReasonConnectionRefused, "nothing listens at " + endpoint + ": connection refused", "is not running", true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return v1alpha1.ReasonConnectionFailed, "no route leads to " + endpoint + ": " + quote(rootCause(err)) + "; check the address and network policies",
			"cannot be reached", true
	case isDial(err) && errors.As(err, &netErr) && netErr.Timeout():
		return v1alpha1.ReasonTimeout, "no connection to " + endpoint + " came about in time; check the address and network policies",
			"did not answer in time", true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return v1alpha1.ReasonTimeout, endpoint + " did not answer in time", "did not answer in time", true
	case errors.Is(err, context.Canceled):
		return v1alpha1.ReasonConnectionFailed, "the request to " + endpoint + " was cancelled", "was not waited for", true
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return v1alpha1.ReasonConnectionFailed, endpoint + " reset the connection before it answered", "closed the connection", true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return v1alpha1.ReasonConnectionFailed, endpoint + " closed the connection before it answered", "closed the connection", true
	case strings.Contains(err.Error(), "malformed HTTP"): // net/http has no type for it
		return v1alpha1.ReasonNotMCP, endpoint + " does not speak HTTP: check the port, and whether the URL should begin with https",
			"does not speak MCP", true
	}
	return "", "", "", false
}

// unresolved says why a name could not be resolved: there is no such name, or nobody could tell.
func unresolved(e *net.DNSError) string {
	switch name := quoteText(e.Name); {
	case e.IsNotFound:
		return fmt.Sprintf("the host name %q is unknown", name)
	case e.IsTimeout:
		return fmt.Sprintf("the host name %q could not be resolved: no name server answered in time", name)
	default:
		return fmt.Sprintf("the host name %q could not be resolved: %s", name, quoteText(e.Err))
	}
}

// isDial says that a request failed before there was a connection.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
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
