// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command vmcp is the MCP gateway behind a VirtualMCPServer, and the bridge before an MCP server that speaks stdio.
//
// It exits with 0 after an orderly end, 2 when its command line or a file that it was given is wrong, and 1 when anything
// else failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	// The image is built from scratch and has no certificates of its own; those of the system win where there are any.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/vmcp-dev/vmcp-operator/internal/version"
	"github.com/vmcp-dev/vmcp-operator/runtime/config"
)

const (
	exitOK      = 0
	exitFailed  = 1
	exitMisused = 2
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// misuse is an error that the user ends by changing the command line or a file.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// execute runs the program and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if mistakes := (config.ManifestErrors)(nil); errors.As(err, &mistakes) {
		fmt.Fprintln(stderr, mistakes) // each line begins with the file, as editors like it
	} else {
		fmt.Fprintf(stderr, "vmcp: %v\n", err)
	}
	if errors.As(err, new(misuse)) {
		return exitMisused
	}
	return exitFailed
}

func newCommand() *cobra.Command {
	log := &logging{}
	cmd := &cobra.Command{
		Use:           "vmcp",
		Short:         "One MCP endpoint in front of many MCP servers",
		SilenceErrors: true, // execute prints them
		SilenceUsage:  true,
		Args:          misused(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	cmd.PersistentFlags().TextVar(&log.level, "log-level", slog.LevelInfo, "least severe messages to log: debug, info, warn or error")
	cmd.PersistentFlags().StringVar(&log.format, "log-format", "", "json or text (default json, with serve -f text)")
	cmd.AddCommand(newServeCommand(log), newBridgeCommand(log), &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  misused(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.String())
			return err
		},
	})
	return cmd
}

// misused makes errors about arguments misuses.
func misused(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return misuse{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

// logging holds the flags about the log.
type logging struct {
	level  slog.Level
	format string
}

const (
	formatJSON = "json"
	formatText = "text"
)

// logger makes the logger that the flags ask for, in a format that depends on the command if they name none.
func (l *logging) logger(w io.Writer, format string) (*slog.Logger, error) {
	if l.format != "" {
		format = l.format
	}
	o := &slog.HandlerOptions{Level: l.level}
	switch format {
	case formatJSON:
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case formatText:
		return slog.New(slog.NewTextHandler(w, o)), nil
	default:
		return nil, misuse{fmt.Errorf("--log-format must be %s or %s, not %q", formatJSON, formatText, format)}
	}
}
