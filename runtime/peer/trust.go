// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/vmcp-dev/vmcp-operator/runtime/session"
)

// trust is mutual TLS between the replicas of one gateway. Each key that a replica may have (previous, current, next) stands for a pair
// of Ed25519 keys that is derived from it. A replica shows a certificate with the current pair, and trusts whoever proves in the
// handshake that it has one of the three; nothing else in the certificate counts. So what they say is secret, cannot be changed on the way
// and, TLS 1.3 without early data, cannot be said a second time by others; clocks need not agree.
type trust struct {
	uid  string
	ring atomic.Pointer[ring]
}

type ring struct {
	own     tls.Certificate
	trusted []ed25519.PublicKey
}

func (t *trust) set(k session.Keys) error {
	if len(k.Current) == 0 {
		return errors.New("there is no current key")
	}
	seeds, err := k.Derive("vmcp replicas of " + t.uid)
	if err != nil {
		return err
	}
	next := &ring{}
	for _, seed := range [][]byte{seeds.Current, seeds.Previous, seeds.Next} {
		if len(seed) == 0 {
			continue
		}
		pair := ed25519.NewKeyFromSeed(seed)
		public, _ := pair.Public().(ed25519.PublicKey) // it is one
		next.trusted = append(next.trusted, public)
		if len(next.trusted) > 1 {
			continue
		}
		if next.own, err = certify(pair, public); err != nil {
			return err
		}
	}
	t.ring.Store(next)
	return nil
}

// certify makes what TLS wants around a key.
func certify(pair ed25519.PrivateKey, public ed25519.PublicKey) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} // RFC 5280: it has no end
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, pair)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: pair}, nil
}

var (
	errNoKeys   = errors.New("there are no session keys yet")
	errStranger = errors.New("not a replica of this gateway with one of the present keys")
)

// verify is called after TLS has found that the other side has the private key of its certificate.
func (t *trust) verify(c tls.ConnectionState) error {
	known := t.ring.Load()
	if known == nil {
		return errNoKeys
	}
	if len(c.PeerCertificates) != 1 {
		return errStranger
	}
	key, ok := c.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return errStranger
	}
	for _, k := range known.trusted {
		if k.Equal(key) {
			return nil
		}
	}
	return errStranger
}

func (t *trust) certificate() (*tls.Certificate, error) {
	known := t.ring.Load()
	if known == nil {
		return nil, errNoKeys
	}
	return &known.own, nil
}

func (t *trust) client() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		InsecureSkipVerify:   true, //nolint:gosec // G402: keys are pinned by verify instead; there are no names to verify
		VerifyConnection:     t.verify,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.certificate() },
	}
}

func (t *trust) server() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection:       t.verify,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.certificate() },
		SessionTicketsDisabled: true, // a key that is gone shall open no connection
		NextProtos:             []string{"http/1.1"},
	}
}

// ServerTLS is how connections of peers are served.
func (g *Group) ServerTLS() *tls.Config { return g.trust.server() }
