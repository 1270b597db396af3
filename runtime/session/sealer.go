// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package session makes what a gateway hands out to clients to get it back later: the ids of sessions, cursors, the state of requests
// that need input. All of it is sealed, so that every replica with the keys can read it, nothing has to be stored, and nobody else can
// make or change it.
package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
)

// KeySize is the length of a key in bytes.
const KeySize = configv1alpha1.SessionKeySize

// ErrForeign says that something was not sealed by this gateway, for this principal and purpose, with one of the present keys.
var ErrForeign = errors.New("not sealed by this gateway for this client")

// Keys are a ring of keys. What is sealed is sealed with Current; it is opened with any of them. So a new key comes in as Next, with
// which another replica may seal already, becomes Current, then Previous until what it sealed has ended. Previous and Next may be empty.
type Keys struct{ Previous, Current, Next []byte }

// Sealer seals for one gateway. It is safe for concurrent use.
//
// The cipher is AES-256-GCM with random nonces, from the standard library: it is in the FIPS module, and amd64 and arm64 have it in
// hardware. Random nonces allow 2^32 seals with a key (NIST SP 800-38D, section 8.3), which is 50,000 a second for a day; longer nonces
// would cost another dependency.
type Sealer struct {
	uid  [sha256.Size]byte
	own  cipher.AEAD
	ring atomic.Pointer[ring]
}

// ring is the ciphers of Keys, that of Current first, and last the sealer's own.
type ring []cipher.AEAD

// NewSealer makes a sealer for the gateway with this UID. Until SetKeys is called it seals with a key of its own, which is lost with
// the process.
func NewSealer(uid string) *Sealer {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	own, err := newCipher(key)
	if err != nil {
		panic(err) // the key has the right length
	}
	s := &Sealer{uid: sha256.Sum256([]byte(uid)), own: own}
	s.ring.Store(&ring{own})
	return s
}

func newCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// SetKeys replaces the keys. What was sealed with a key that is no longer there cannot be opened any more, except for what the sealer
// sealed before it had any: keys that come late end no session. On an error the keys stay as they were.
func (s *Sealer) SetKeys(k Keys) error {
	if len(k.Current) == 0 {
		return errors.New("there is no current key")
	}
	var next ring
	for _, key := range []struct {
		name string
		key  []byte
	}{{"current", k.Current}, {"previous", k.Previous}, {"next", k.Next}} {
		if len(key.key) == 0 {
			continue
		}
		if len(key.key) != KeySize {
			return fmt.Errorf("the %s key has %d bytes, not %d", key.name, len(key.key), KeySize)
		}
		aead, err := newCipher(key.key)
		if err != nil {
			return fmt.Errorf("using the %s key: %w", key.name, err)
		}
		next = append(next, aead)
	}
	next = append(next, s.own)
	s.ring.Store(&next)
	return nil
}

// Purpose keeps what is sealed for one use from being taken for another.
type Purpose string

// What is sealed.
const (
	PurposeSession Purpose = "session id"
	PurposeCursor  Purpose = "cursor"
	PurposeState   Purpose = "request state"
	PurposeReplica Purpose = "replica"
)

// encoding gives visible ASCII that needs no escapes in headers, JSON and URLs.
var encoding = base64.RawURLEncoding.Strict()

// Seal makes text that only Open with the same purpose and principal can read.
func (s *Sealer) Seal(p Purpose, principal string, content []byte) string {
	sealed := (*s.ring.Load())[0].Seal(nil, nil, content, s.additional(p, principal)) //nolint:gosec // G407: the cipher makes the nonce itself
	return encoding.EncodeToString(sealed)
}

// Open reads what Seal made, or fails with ErrForeign.
func (s *Sealer) Open(p Purpose, principal, text string) ([]byte, error) {
	sealed, err := encoding.DecodeString(text)
	if err != nil || len(text) != encoding.EncodedLen(len(sealed)) { // the decoder skips line breaks: one thing, one text
		return nil, ErrForeign
	}
	additional := s.additional(p, principal)
	for _, aead := range *s.ring.Load() {
		if content, err := aead.Open(nil, nil, sealed, additional); err == nil {
			return content, nil
		}
	}
	return nil, ErrForeign
}

// additional is the associated data: the gateway, the purpose and the principal, the latter two hashed so that their lengths cannot be
// shifted against each other.
func (s *Sealer) additional(p Purpose, principal string) []byte {
	purpose, who := sha256.Sum256([]byte(p)), sha256.Sum256([]byte(principal))
	data := make([]byte, 0, 3*sha256.Size)
	data = append(data, s.uid[:]...)
	data = append(data, purpose[:]...)
	return append(data, who[:]...)
}

// put64 and get64 are big endian, so that encodings compare as their values do.
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func get64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
