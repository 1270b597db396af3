// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	vmcpac "github.com/vmcp-dev/vmcp-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
)

// A runtime may be newer than the CRD: the operator's bundle updates the one, its images the other. One field that the CRD does not
// know, or one value that it does not allow, makes the API server refuse the whole status. So what was refused is left out, and the
// rest is reported. The API server names a part of what it refuses at a time, so it may take several tries to find all of it.

// forgetRefusedAfter is when what was refused is tried again, for the CRD may have been updated.
const forgetRefusedAfter = time.Hour

// refusal is what the API server refuses of a status: a field, in every item of a list, or some of its values.
type refusal struct {
	// path are the names of the fields down to it; "[]" stands for any item of a list.
	path []string
	// only holds the refused value, when others are taken.
	only any
	// limit is the most characters of a text, or items of a list, that are taken; negative when that is not the point.
	limit int
}

func (r refusal) String() string { return strings.ReplaceAll(strings.Join(r.path, "."), ".[]", "[]") }

// keys are the fields by which the items of a list are told apart. An item that lacks one cannot be reported.
var keys = map[string][]string{
	"discoveredBackends": {"kind", "name"}, "conditions": {"type"}, "issues": {"reason", "kind", "backend", "name"},
}

var (
	// undeclared finds the fields in the error of a server-side apply that does not fit the schema: it is a plain 500.
	undeclared = regexp.MustCompile(`\.status((?:\.\w+|\[[^\]]*\])+): (?:field not declared in schema|expected )`)
	mostOf     = regexp.MustCompile(`(?:may not be more than|must have at most) (\d+)`)
	item       = regexp.MustCompile(`\[[^\]]*\]`)
)

const notTyped = "failed to create typed patch object"

// refusals reads from an error what the API server refused of a status.
func refusals(err error) []refusal {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return nil
	}
	status := answer.Status()
	var found []refusal
	if strings.Contains(status.Message, notTyped) {
		for _, match := range undeclared.FindAllStringSubmatch(status.Message, -1) {
			found = append(found, refusal{path: parsePath(match[1]), limit: -1})
		}
		return found
	}
	if status.Reason != metav1.StatusReasonInvalid || status.Details == nil {
		return nil
	}
	for _, cause := range status.Details.Causes {
		if name, ours := strings.CutPrefix(cause.Field, "status."); ours {
			found = append(found, causeOf(cause, parsePath(name)))
		}
	}
	return found
}

func causeOf(cause metav1.StatusCause, path []string) refusal {
	r := refusal{path: path, limit: -1}
	switch cause.Type {
	case metav1.CauseTypeFieldValueNotSupported:
		_, rest, _ := strings.Cut(cause.Message, "Unsupported value: ")
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			if text, err := strconv.Unquote(quoted); err == nil {
				r.only = text
			}
		}
	case metav1.CauseType(field.ErrorTypeTooLong), metav1.CauseType(field.ErrorTypeTooMany):
		if match := mostOf.FindStringSubmatch(cause.Message); match != nil {
			if limit, err := strconv.Atoi(match[1]); err == nil {
				r.limit = limit
			}
		}
	case metav1.CauseTypeFieldValueRequired:
		// It is a field that was left out, or that this version no longer has: the whole that needs it cannot be reported.
		r.path = path[:len(path)-1]
	default: // no value of the field will do
	}
	return r
}

// parsePath splits a path such as discoveredBackends[0].status or .discoveredBackends[kind="a",name="b"].status. An item's place
// in the list is not kept: it is that in the whole object, which is not known.
func parsePath(text string) []string {
	return strings.Split(strings.Trim(item.ReplaceAllString(text, ".[]"), "."), ".")
}

// drop leaves out what is refused of a status, and says whether there was any.
func (r refusal) drop(status map[string]any) bool {
	if len(r.path) == 0 {
		return false
	}
	name, rest := r.path[0], r.path[1:]
	value, there := status[name]
	if !there {
		return false
	}
	list, isList := value.([]any)
	switch {
	case len(rest) == 0 && isList && r.limit >= 0:
		if len(list) <= r.limit {
			return false
		}
		status[name] = list[:r.limit]
	case len(rest) == 0:
		if !r.refuses(value) {
			return false
		}
		delete(status, name)
	case isList && rest[0] == "[]":
		return r.dropFromItems(status, name, list, rest[1:])
	default:
		object, isObject := value.(map[string]any)
		if !isObject || !(refusal{rest, r.only, r.limit}).drop(object) {
			return false
		}
	}
	return true
}

func (r refusal) dropFromItems(status map[string]any, name string, list []any, path []string) bool {
	changed := false
	kept := slices.DeleteFunc(slices.Clone(list), func(entry any) bool {
		object, isObject := entry.(map[string]any)
		if !isObject || len(path) == 0 {
			changed = true
			return true
		}
		if !(refusal{path, r.only, r.limit}).drop(object) {
			return false
		}
		changed = true
		_, left := object[path[0]]
		return !left && slices.Contains(keys[name], path[0])
	})
	status[name] = kept
	if len(kept) == 0 {
		delete(status, name)
	}
	return changed
}

func (r refusal) refuses(value any) bool {
	text, isText := value.(string)
	switch {
	case r.only != nil:
		return value == r.only
	case r.limit >= 0 && isText:
		return utf8.RuneCountInString(text) > r.limit
	default:
		return true
	}
}

// refused is what the API server has refused of a status so far. The zero value is ready for use; it is not safe for concurrent use.
type refused struct {
	all    []refusal
	since  time.Time
	logged map[string]bool // for good: what is tried again and refused again is no news
}

// learn takes an error of applying a status, and says whether it makes sense to try again without what was refused.
func (f *refused) learn(err error, status *vmcpac.VirtualMCPServerStatusApplyConfiguration, now time.Time, logger *slog.Logger) bool {
	fields, decodeErr := decode(status)
	if decodeErr != nil {
		return false
	}
	learned := false
	for _, r := range refusals(err) {
		if !r.drop(fields) {
			continue // it is another's, or it came with what is dropped already
		}
		learned = true
		f.all, f.since = append(f.all, r), now
		if name := r.String(); !f.logged[name] {
			if f.logged == nil {
				f.logged = map[string]bool{}
			}
			f.logged[name] = true
			logger.Warn("The CRD does not take a field of the status; it is left out until the CRD is updated", "field", "status."+name, "error", err)
		}
	}
	return learned
}

// prune leaves out of a status what is known to be refused. After some time nothing is.
func (f *refused) prune(status *vmcpac.VirtualMCPServerStatusApplyConfiguration, now time.Time) (*vmcpac.VirtualMCPServerStatusApplyConfiguration, error) {
	if now.Sub(f.since) >= forgetRefusedAfter {
		f.all = nil
	}
	if len(f.all) == 0 {
		return status, nil
	}
	fields, err := decode(status)
	if err != nil {
		return status, err
	}
	for _, r := range f.all {
		r.drop(fields)
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return status, fmt.Errorf("encoding a status: %w", err)
	}
	pruned := vmcpac.VirtualMCPServerStatus()
	if err := json.Unmarshal(data, pruned); err != nil {
		return status, fmt.Errorf("decoding a status: %w", err)
	}
	return pruned, nil
}

// until is the time until prune lets pass what was refused.
func (f *refused) until(now time.Time) time.Duration {
	if len(f.all) == 0 {
		return forgetRefusedAfter
	}
	return max(0, forgetRefusedAfter-now.Sub(f.since))
}

func decode(status *vmcpac.VirtualMCPServerStatusApplyConfiguration) (map[string]any, error) {
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("decoding a status: %w", err)
	}
	return fields, nil
}
