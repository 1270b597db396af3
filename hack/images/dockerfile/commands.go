// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dockerfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/vmcp-dev/vmcp-operator/hack/images/image"
)

var errNotImplemented = errors.New("not implemented: only FROM, ARG, COPY, ENV, LABEL, USER, WORKDIR, EXPOSE, ENTRYPOINT and CMD are")

// port is one EXPOSE argument; ranges are not accepted.
var port = regexp.MustCompile(`^([0-9]{1,5})(?:/(tcp|udp|sctp))?$`)

// command applies one instruction, whose variables are already expanded, to the stage.
func (b *builder) command(s *stage, c instructions.Command, origin, source string) error {
	config := &s.spec.Config
	switch c := c.(type) {
	case *instructions.CopyCommand:
		layer, err := copyLayer(c, config.WorkingDir)
		if err != nil {
			return err
		}
		layer.Origin, layer.CreatedBy = origin, source
		s.spec.Layers = append(s.spec.Layers, layer)
	case *instructions.WorkdirCommand:
		config.WorkingDir = path.Join("/", absolute(c.Path, config.WorkingDir))
		s.spec.Layers = append(s.spec.Layers, image.Layer{Origin: origin, CreatedBy: source, Dest: config.WorkingDir})
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			config.Env = setEnv(config.Env, kv.Key, kv.Value)
		}
	case *instructions.LabelCommand:
		if config.Labels == nil {
			config.Labels = map[string]string{}
		}
		for _, kv := range c.Labels {
			config.Labels[kv.Key] = kv.Value
		}
	case *instructions.UserCommand:
		config.User = c.User
	case *instructions.ExposeCommand:
		return b.expose(s, c.Ports)
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			return errors.New(`shell form needs a shell in the image; write ENTRYPOINT ["program", "argument"]`)
		}
		config.Entrypoint, config.Cmd = c.CmdLine, nil // as Docker does, CMD is reset
	case *instructions.CmdCommand:
		if c.PrependShell {
			return errors.New(`shell form needs a shell in the image; write CMD ["argument"]`)
		}
		config.Cmd = c.CmdLine
	default:
		return errNotImplemented
	}
	return nil
}

func copyLayer(c *instructions.CopyCommand, workdir string) (image.Layer, error) {
	switch {
	case c.From != "":
		return image.Layer{}, errors.New("--from is not implemented: copy from the build context")
	case c.Parents:
		return image.Layer{}, errors.New("--parents is not implemented")
	case len(c.ExcludePatterns) > 0:
		return image.Layer{}, errors.New("--exclude is not implemented")
	case len(c.SourceContents) > 0:
		return image.Layer{}, errors.New("here-documents are not implemented")
	}
	layer := image.Layer{Sources: c.SourcePaths, Dest: absolute(c.DestPath, workdir)}
	if len(c.SourcePaths) > 1 && !strings.HasSuffix(layer.Dest, "/") {
		return layer, fmt.Errorf("with more than one source the destination must be a directory and end with a slash: %q", c.DestPath)
	}
	var err error
	if layer.UID, layer.GID, err = owner(c.Chown); err != nil {
		return layer, err
	}
	layer.Mode, err = mode(c.Chmod)
	return layer, err
}

// absolute resolves a path of the image against the working directory and
// keeps what says that it is a directory.
func absolute(p, workdir string) string {
	isDir := strings.HasSuffix(p, "/") || p == "." || strings.HasSuffix(p, "/.")
	if !path.IsAbs(p) {
		p = path.Join("/", workdir, p)
	}
	p = path.Clean(p)
	if isDir && p != "/" {
		p += "/"
	}
	return p
}

// owner parses "uid", or "uid:gid". A missing gid equals the uid, as in Docker.
func owner(s string) (uid, gid int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	u, g, both := strings.Cut(s, ":")
	if !both {
		g = u
	}
	id := func(s string) int {
		n, e := strconv.ParseUint(s, 10, 31)
		if e != nil {
			err = fmt.Errorf("--chown=%s: only numbers, there is no /etc/passwd to look names up in", s)
		}
		return int(n)
	}
	uid, gid = id(u), id(g)
	return uid, gid, err
}

// mode parses octal permissions; the set-id and sticky bits are allowed.
func mode(s string) (*fs.FileMode, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		return nil, fmt.Errorf("--chmod=%s: want an octal number such as 0755", s)
	}
	m := fs.FileMode(n & 0o777)
	for value, bit := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n&value != 0 {
			m |= bit
		}
	}
	return &m, nil
}

func setEnv(env []string, key, value string) []string {
	for i, e := range env {
		if k, _, _ := strings.Cut(e, "="); k == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

func (b *builder) expose(s *stage, ports []string) error {
	expand := b.expander(s.environment())
	for _, p := range ports {
		p, err := expand(p)
		if err != nil {
			return err
		}
		m := port.FindStringSubmatch(p)
		if m == nil {
			return fmt.Errorf("%q is not PORT or PORT/tcp|udp|sctp", p)
		}
		if n, err := strconv.ParseUint(m[1], 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q: a port is between 1 and 65535", p)
		}
		protocol := m[2]
		if protocol == "" {
			protocol = "tcp"
		}
		if s.spec.Config.ExposedPorts == nil {
			s.spec.Config.ExposedPorts = map[string]struct{}{}
		}
		s.spec.Config.ExposedPorts[m[1]+"/"+protocol] = struct{}{}
	}
	return nil
}
