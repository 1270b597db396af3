// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "time"

// What operator and runtime agree on about the keys that seal the ids of sessions. The operator keeps them in a Secret, one key of
// it for each key, and mounts it into the pods; the runtime reads the files.
const (
	// SessionKeysDir is the folder in which the operator mounts the keys. A runtime out of the cluster may have them elsewhere.
	SessionKeysDir = "/var/run/secrets/vmcp.dev/session-keys"

	// SessionKeyCurrent seals, and SessionKeyPrevious did before; SessionKeyNext will. All of them open what they sealed. Only the
	// current one has to be there.
	SessionKeyPrevious = "previous"
	SessionKeyCurrent  = "current"
	SessionKeyNext     = "next"

	// SessionKeySize is the length of a key in bytes.
	SessionKeySize = 32

	// SessionLife is how long a session may last, however busy it is, and so how long a key is needed after it sealed for the last time.
	SessionLife = 8 * time.Hour
)
