// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vmcp-dev/vmcp-operator/api/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/backend"
)

// TestClassifyNetwork has backends that no answer comes from: below HTTP something goes wrong.
func TestClassifyNetwork(t *testing.T) {
	noHTTP := http.NotFoundHandler()
	for name, tc := range map[string]struct {
		faultCase
		transport func(t *testing.T) *http.Transport // nil: the client's own
	}{
		"no such host": {faultCase: faultCase{
			func(*testing.T) string { return "http://no-such-host.invalid" },
			v1alpha1.ReasonNameNotResolved, `the host name "no-such-host.invalid" is unknown`,
		}},
		"no such name": {faultCase{
			func(*testing.T) string { return "http://docs.example" },
			v1alpha1.ReasonNameNotResolved, `the host name "docs.example" is unknown`,
		}, asking(dnsmessage.RCodeNameError)},
		"a name server that fails": {faultCase{
			func(*testing.T) string { return "http://docs.example" },
			v1alpha1.ReasonNameNotResolved, `the host name "docs.example" could not be resolved: server misbehaving`,
		}, asking(dnsmessage.RCodeServerFailure)},
		"a name server that is silent": {faultCase{
			func(*testing.T) string { return "http://docs.example" },
			v1alpha1.ReasonNameNotResolved, `the host name "docs.example" could not be resolved: no name server answered in time`,
		}, asking(silent)},
		"nothing listens": {faultCase: faultCase{
			func(t *testing.T) string { return "http://" + unused(t) },
			v1alpha1.ReasonConnectionRefused, "nothing listens at BASE/mcp: connection refused",
		}},
		"no route": {faultCase: faultCase{
			func(*testing.T) string { return "http://255.255.255.255" }, // to which TCP does not connect
			v1alpha1.ReasonConnectionFailed, "no route leads to BASE/mcp: dial tcp 255.255.255.255:80: connect: network is unreachable; check the address and network policies",
		}},
		"no connection": {faultCase{
			crowded, v1alpha1.ReasonTimeout, "no connection to BASE/mcp came about in time; check the address and network policies",
		}, func(*testing.T) *http.Transport {
			return &http.Transport{DialContext: (&net.Dialer{Timeout: 50 * time.Millisecond}).DialContext}
		}},
		"silence": {faultCase: faultCase{
			func(t *testing.T) string { return raw(t, "") },
			v1alpha1.ReasonTimeout, "BASE/mcp did not answer in time",
		}},
		"reset": {faultCase: faultCase{
			resetting, v1alpha1.ReasonConnectionFailed, "BASE/mcp reset the connection before it answered",
		}},
		"cut": {faultCase: faultCase{
			func(t *testing.T) string {
				return raw(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
			},
			v1alpha1.ReasonConnectionFailed, "BASE/mcp closed the connection before it answered",
		}},
		"a certificate of an unknown authority": {faultCase: faultCase{
			func(t *testing.T) string { return serveTLS(t, noHTTP, &tls.Config{}) },
			v1alpha1.ReasonCertificateUntrusted, "the certificate of BASE/mcp is not trusted: tls: failed to verify certificate: x509: certificate signed by unknown authority",
		}},
		"a certificate that has expired": {faultCase{
			func(t *testing.T) string {
				return serveTLS(t, noHTTP, certified(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))
			},
			v1alpha1.ReasonCertificateExpired, "the certificate of BASE/mcp has expired, or is not valid yet: tls: failed to verify certificate: x509: certificate has expired",
		}, nil},
		"a certificate that is not valid yet": {faultCase{
			func(t *testing.T) string {
				return serveTLS(t, noHTTP, certified(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }))
			},
			v1alpha1.ReasonCertificateExpired, "is not valid yet: tls: failed to verify certificate",
		}, nil},
		"a certificate for another host": {faultCase{
			func(t *testing.T) string {
				return serveTLS(t, noHTTP, certified(t, func(c *x509.Certificate) {
					c.IPAddresses, c.DNSNames = nil, []string{"other.example"}
				}))
			},
			v1alpha1.ReasonCertificateNameMismatch, "the certificate of BASE/mcp is for another name: tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1",
		}, nil},
		"a client certificate is wanted": {faultCase{
			func(t *testing.T) string {
				return serveTLS(t, noHTTP, &tls.Config{ClientAuth: tls.RequireAnyClientCert})
			},
			v1alpha1.ReasonClientCertificateRequired, "BASE/mcp wants a client certificate, and the gateway has none",
		}, trusting},
		"a client certificate is wanted, TLS 1.2": {faultCase{
			func(t *testing.T) string {
				return serveTLS(t, noHTTP, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12})
			},
			v1alpha1.ReasonTLSFailed, "the TLS handshake with BASE/mcp failed: it wants a client certificate, or there is no common cipher suite",
		}, trusting},
		"too old a TLS": {faultCase{
			func(t *testing.T) string {
				return serveTLS(t, noHTTP, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
			},
			v1alpha1.ReasonTLSFailed, "the TLS handshake with BASE/mcp failed: remote error: tls: protocol version not supported",
		}, trusting},
		"https to a server without TLS": {faultCase: faultCase{
			func(t *testing.T) string { return strings.Replace(serve(t, noHTTP), "http:", "https:", 1) },
			v1alpha1.ReasonTLSFailed, "the TLS handshake with BASE/mcp failed: http: server gave HTTP response to HTTPS client",
		}},
		"http to a server with TLS": {faultCase: faultCase{
			func(t *testing.T) string {
				return strings.Replace(serveTLS(t, noHTTP, &tls.Config{}), "https:", "http:", 1)
			},
			v1alpha1.ReasonTLSFailed, "BASE/mcp speaks TLS only: the URL has to begin with https",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			base := tc.server(t)
			target := backend.Target{Key: docs, URL: base + "/mcp?token=secret", Transport: v1alpha1.TransportStreamableHTTP}
			var options backend.Options
			if tc.transport != nil {
				transport := tc.transport(t)
				t.Cleanup(transport.CloseIdleConnections)
				options.Transport = transport
			}
			c := backend.NewClient(target, options)
			t.Cleanup(c.Close)
			tc.expect(t, base, c)
		})
	}
}

// silent is no answer of a name server.
const silent dnsmessage.RCode = 0xFFF

// asking makes a transport that asks a name server which answers every question alike.
func asking(code dnsmessage.RCode) func(t *testing.T) *http.Transport {
	return func(t *testing.T) *http.Transport {
		t.Helper()
		server, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			answerQuestions(server, code)
		}()
		t.Cleanup(func() { server.Close(); <-ended })
		// A lookup goes on when nobody waits for it any more; it ends with the test.
		resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "udp", server.LocalAddr().String())
			if err == nil {
				context.AfterFunc(t.Context(), func() { c.Close() })
			}
			return c, err
		}}
		return &http.Transport{DialContext: (&net.Dialer{Timeout: 100 * time.Millisecond, Resolver: resolver}).DialContext}
	}
}

func answerQuestions(server net.PacketConn, code dnsmessage.RCode) {
	for packet := make([]byte, 1500); ; {
		n, from, err := server.ReadFrom(packet)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if code == silent || m.Unpack(packet[:n]) != nil {
			continue
		}
		m.Response, m.RecursionAvailable, m.RCode, m.Additionals = true, true, code, nil
		answer, err := m.Pack()
		if err != nil {
			return
		}
		_, _ = server.WriteTo(answer, from)
	}
}

// crowded listens and takes no connection: its queue is full.
func crowded(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	socket, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listenErr error
	if err := socket.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) }); err != nil || listenErr != nil {
		t.Fatal(err, listenErr)
	}
	for { // until there is no room
		c, err := net.DialTimeout("tcp", l.Addr().String(), 50*time.Millisecond)
		if err != nil {
			return "http://" + l.Addr().String()
		}
		t.Cleanup(func() { c.Close() })
	}
}

// resetting resets every connection that it got something on.
func resetting(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func serveTLS(t *testing.T, handler http.Handler, config *tls.Config) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.TLS = config
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// trusting makes a transport that trusts the certificate of httptest's servers.
func trusting(t *testing.T) *http.Transport {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
}

// certified is the configuration of a server with a certificate of its own making, valid but for what change says.
func certified(t *testing.T, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "docs"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
	}
	change(c)
	encoded, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{encoded}, PrivateKey: key}}}
}
