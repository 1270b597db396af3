// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/rand"
	"slices"
	"time"

	configv1alpha1 "github.com/vmcp-dev/vmcp-operator/api/config/v1alpha1"
	"github.com/vmcp-dev/vmcp-operator/runtime/era"
)

// Life is how long a session may last, however busy it is. It bounds how long keys and tombstones have to be kept.
const Life = configv1alpha1.SessionLife

// skew is how far the clock of the replica that began a session may be ahead.
const skew = time.Minute

// Info is what the id of a session of the legacy era says.
type Info struct {
	// Serial tells sessions apart: random bits, from which nothing can be guessed.
	Serial [16]byte
	// Version is the revision agreed in initialize.
	Version string
	// Capabilities are the client's.
	Capabilities era.Capabilities
	// Issued is when the session began, to the microsecond.
	Issued time.Time
}

// Expires is when the session ends at the latest.
func (i Info) Expires() time.Time { return i.Issued.Add(Life) }

// The content of an id: layout, revision, capabilities, time of issue in microseconds, serial.
const (
	layout     = 1
	contentLen = 1 + 1 + 1 + 8 + 16
)

// revisions are the codes of revisions in ids. Codes are never used again for another revision.
var revisions = []string{1: era.V20250326, 2: era.V20250618, 3: era.V20251125}

// MintID makes the id of a session that begins at now. It is visible ASCII (MCP 2025-11-25, transports, session management). The
// version has to be one of the legacy era.
func (s *Sealer) MintID(principal, version string, c era.Capabilities, now time.Time) string {
	content := make([]byte, 3, contentLen)
	content[0], content[1], content[2] = layout, byte(slices.Index(revisions, version)), byte(c) //nolint:gosec // G115: a handful of codes
	content = put64(content, uint64(now.UnixMicro()))
	var serial [16]byte
	_, _ = rand.Read(serial[:]) // never fails
	return s.Seal(PurposeSession, principal, append(content, serial[:]...))
}

// OpenID reads the id of a session that has not ended by its age at now. Every other id is ErrForeign.
func (s *Sealer) OpenID(principal, id string, now time.Time) (Info, error) {
	content, err := s.Open(PurposeSession, principal, id)
	if err != nil {
		return Info{}, err
	}
	if len(content) != contentLen || content[0] != layout || int(content[1]) >= len(revisions) || revisions[content[1]] == "" {
		return Info{}, ErrForeign // of a replica with another version of the program
	}
	i := Info{
		Serial: [16]byte(content[11:]), Version: revisions[content[1]], Capabilities: era.Capabilities(content[2]),
		Issued: time.UnixMicro(int64(get64(content[3:]))), //nolint:gosec // G115: what MintID wrote
	}
	if now.After(i.Expires()) || i.Issued.After(now.Add(skew)) {
		return Info{}, ErrForeign
	}
	return i, nil
}
