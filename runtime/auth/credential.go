// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unique"

	"golang.org/x/net/http/httpguts"
)

const (
	redacted = "[redacted]"
	// maxHeaderValue is more than any server takes as the value of one header.
	maxHeaderValue = 64 << 10
	// minToken is the length from which the part of a value after its scheme is kept back when it stands alone. A shorter one
	// would be found in any text.
	minToken = 8
)

// Credential is a secret value: what a strategy puts on requests. It is comparable, nothing prints it, and the zero Credential
// is none.
type Credential struct {
	// A handle prints as an address, even where fmt cannot call String because it got here through an unexported field.
	value unique.Handle[string]
}

// NewCredential makes a credential of a value that is known to be usable.
func NewCredential(value string) Credential { return Credential{unique.Make(value)} }

// IsZero says that there is no credential.
func (c Credential) IsZero() bool { return c == Credential{} }

// String implements fmt.Stringer without the value.
func (c Credential) String() string { return redacted }

// GoString implements fmt.GoStringer without the value.
func (c Credential) GoString() string { return redacted }

// LogValue implements slog.LogValuer without the value.
func (c Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler without the value.
func (c Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Redact takes the credential out of somebody else's words: a backend may quote what it refuses.
func (c Credential) Redact(text string) string {
	if c.IsZero() {
		return text
	}
	value := c.value.Value()
	text = strings.ReplaceAll(text, value, redacted)
	if _, token, ok := strings.Cut(value, " "); ok && len(token) >= minToken {
		text = strings.ReplaceAll(text, token, redacted)
	}
	return text
}

// headerValue makes a credential of a field value (RFC 9110, section 5.5). White space around it is no part of a field value and
// is taken off, line ends included: most files, and so most Secrets made of files, end with one.
func headerValue(value []byte) (Credential, error) {
	trimmed := string(bytes.Trim(value, " \t\r\n"))
	switch {
	case trimmed == "":
		return Credential{}, errors.New("is empty")
	case len(trimmed) > maxHeaderValue:
		return Credential{}, fmt.Errorf("has more than %d bytes", maxHeaderValue)
	case !httpguts.ValidHeaderFieldValue(trimmed):
		return Credential{}, errors.New("is no value of a header: it has a line break or another control character in it")
	}
	return NewCredential(trimmed), nil
}
