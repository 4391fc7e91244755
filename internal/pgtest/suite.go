package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/migrations"
)

const (
	template  = "tailroom_template"
	dirPrefix = "tailroom-pgtest-"
)

// suite is the server that all tests of the process share.
var suite sharedServer

type sharedServer struct {
	once   sync.Once
	dir    string
	server *localpg.Server
	err    error
}

// start starts the server at its first call and tells every caller how it went.
func (s *sharedServer) start() (*localpg.Server, error) {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		sweep()
		if s.dir, s.err = newDir(); s.err != nil {
			return
		}
		if s.server, s.err = localpg.Start(ctx, config(s.dir)); s.err != nil {
			return
		}
		s.err = makeTemplate(ctx, s.server)
	})
	return s.server, s.err
}

// stop is for when no test runs any more.
func (s *sharedServer) stop() error {
	var err error
	if s.server != nil {
		err = stop(s.server)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// makeTemplate migrates a database and closes it: Postgres copies none that
// somebody is connected to.
func makeTemplate(ctx context.Context, server *localpg.Server) error {
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	if err := migrations.Up(ctx, server.URL(template)); err != nil {
		return fmt.Errorf("migrating the template database: %w", err)
	}
	if _, err := conn.Exec(ctx, makeWriter); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+template+" ALLOW_CONNECTIONS false")
	return err
}

func config(dir string) localpg.Config {
	return localpg.Config{Dir: dir, Settings: map[string]string{
		"shared_buffers":  "64MB",
		"max_connections": "200",
	}}
}

func stop(server *localpg.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return server.Stop(ctx)
}

// newDir makes a temporary directory that others may enter: root's Postgres runs
// as somebody else. What is in it is private nevertheless.
func newDir() (string, error) {
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// sweep removes what test runs that were killed have left: whatever is older
// than a day. A postmaster among it ends when it misses its files.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(dir)
		}
	}
}
