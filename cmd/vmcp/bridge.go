// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmcp-dev/vmcp-operator/runtime/bridge"
)

func newBridgeCommand(log *logging) *cobra.Command {
	var (
		o      bridge.Options
		listen string
	)
	cmd := &cobra.Command{
		Use:   "bridge [flags] -- COMMAND [ARGS...]",
		Short: "Serve an MCP server that speaks stdio over streamable HTTP",
		Long: `Serve an MCP server that speaks stdio over streamable HTTP.

The bridge starts COMMAND once per MCP session and ends it with the session. What COMMAND writes to its standard error
becomes part of the bridge's log.`,
		Example: "  vmcp bridge --listen 127.0.0.1:8080 -- npx -y @modelcontextprotocol/server-everything",
		Args: misused(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || cmd.ArgsLenAtDash() != 0 {
				return errors.New("name the command of the MCP server after --")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			logger, err := log.logger(cmd.ErrOrStderr(), formatJSON)
			if err != nil {
				return err
			}
			o.Command, o.Logger = args, logger
			// In a container the bridge is the first process, and inherits what the server leaves behind.
			o.ReapOrphans = os.Getpid() == 1
			return bridge.Run(cmd.Context(), listen, o)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":8080", "TCP address to listen on")
	cmd.Flags().StringVar(&o.Path, "path", "/mcp", "HTTP path of the MCP endpoint")
	cmd.Flags().IntVar(&o.MaxSessions, "max-sessions", 32, "most sessions, and so processes of the server, at a time")
	cmd.Flags().DurationVar(&o.IdleTimeout, "idle-timeout", 10*time.Minute, "end a session that nobody has used for this long")
	cmd.Flags().DurationVar(&o.ShutdownDelay, "shutdown-delay", 0, shutdownDelayUsage)
	cmd.AddCommand(&cobra.Command{
		Use:   "install PATH",
		Short: "Copy this program to PATH",
		Long: `Copy this program to PATH.

An init container with this program's image puts the bridge into a pod with it: the pod's own image needs nothing for it.`,
		Args: misused(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return bridge.Install(args[0]) },
	})
	return cmd
}
