// Package localpg runs a private PostgreSQL for `tailroom dev` and for the
// tests: nothing to install but the binaries, nothing to configure.
//
// A Server owns one directory. Its data stay there between starts, its log is
// beside them, and it is reached through a unix socket that only the owner (and
// root) can open; it listens on no network address. Roles are not asked for a
// password: whoever reaches the socket is trusted.
//
// One process uses a directory at a time: a second Start is refused for as long
// as the first lives. A postmaster that a killed predecessor left running is
// stopped cleanly first. On Linux none is left: there Postgres shuts down with
// the process that started it, however that ends.
//
// Postgres refuses to run as root. Started by root, it runs as the user
// postgres, or else nobody; if that user cannot enter the directory (somewhere
// below /root, say), the data live in /var/lib/tailroom instead.
//
// What the package does not do: migrate, back up, or upgrade the data from one
// major version of Postgres to the next. It uses the binaries of the version
// that made the data, and says so when they are missing.
//
//	binaries.go   which PostgreSQL
//	account.go    which operating system user
//	directory.go  where the files are, and the lock
//	leftover.go   the predecessor's postmaster
//	cluster.go    initdb
//	process.go    one life of a postmaster
package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the role that a server is made with.
const Superuser = "tailroom"

// database is the one that Start makes.
const database = "tailroom"

// pollInterval is how often Start looks again at what sends no signal.
const pollInterval = 20 * time.Millisecond

// Config says where a server lives and how.
type Config struct {
	// Dir holds all that is kept: the data in Dir/pg, the server's log in
	// Dir/postgres.log. It is made if it is not there.
	Dir string

	// Durable makes commits survive a crash of the machine. Tests go without;
	// a crash of Postgres alone loses nothing in either case.
	Durable bool

	// Settings are server settings by name; they win over this package's.
	Settings map[string]string

	// Environ adds to the server's environment, as NAME=value.
	Environ []string

	// Log receives what is done, not what Postgres says. Nil is silent.
	Log *slog.Logger
}

// Server is a running PostgreSQL. Its methods may be called concurrently, except
// that Restart neither overlaps with Stop or itself nor follows a Stop.
type Server struct {
	cfg     Config
	bin     string // directory of the binaries
	account account
	home    string // holds pg, postgres.log and the lock; Config.Dir where possible
	sockets string // directory of the unix socket
	lock    *os.File
	release sync.Once

	mu   sync.Mutex
	life *process
}

// Start starts the server of cfg.Dir, making its data first if there are none,
// and returns when it accepts connections. The context bounds the start alone.
// An error from Postgres comes with the last lines of its log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("component", "localpg")

	s := &Server{cfg: cfg}
	if err := s.start(ctx); err != nil {
		if s.life != nil {
			s.life.abandon(ctx)
		}
		s.letGo()
		return nil, fmt.Errorf("starting a local postgres: %w", err)
	}
	cfg.Log.Info("postgres is ready", "pid", s.PID(), "data", s.DataDir())
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.account, err = findAccount(); err != nil {
		return err
	}
	if s.home, err = chooseHome(s.account, s.cfg.Dir); err != nil {
		return err
	}
	if s.lock, err = lockHome(s.home); err != nil {
		return err
	}
	if s.bin, err = findBinaries(ctx, s.DataDir()); err != nil {
		return err
	}
	if err = stopLeftover(ctx, s.DataDir(), s.cfg.Log); err != nil {
		return err
	}
	if err = s.ensureCluster(ctx); err != nil {
		return err
	}
	if s.sockets, err = makeSocketDir(s.account, s.DataDir()); err != nil {
		return err
	}
	if err = s.launch(ctx); err != nil {
		return err
	}
	return s.ensureDatabase(ctx)
}

// URL is the address of one of the server's databases, for pgx and for psql.
// The database that every server has is "tailroom".
func (s *Server) URL(database string) string {
	query := url.Values{"host": {s.sockets}, "port": {s.port()}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User(Superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

func (s *Server) port() string { return cmp.Or(s.cfg.Settings["port"], port) }

// Program is a command that runs one of PostgreSQL's own programs, such as
// pg_basebackup, of the server's version and as its operating system user.
func (s *Server) Program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.home
	cmd.Env = environment()
	cmd.SysProcAttr = s.account.attributes()
	return cmd
}

// DataDir is where the data are: Dir/pg, unless root's server could not go there.
func (s *Server) DataDir() string { return filepath.Join(s.home, "pg") }

// PID is the postmaster's process id; Restart changes it.
func (s *Server) PID() int { return s.current().cmd.Process.Pid }

// Done is closed when the postmaster has ended, whatever ended it. Restart
// begins a new life with a new channel.
func (s *Server) Done() <-chan struct{} { return s.current().done }

// Stop shuts the server down: sessions are cut, committed data written. When the
// context ends first, Postgres is killed (the next start recovers) and Stop says
// so. Stopping twice is fine.
func (s *Server) Stop(ctx context.Context) error {
	err := s.current().stop(ctx)
	s.letGo()
	return err
}

// Restart ends the postmaster with a signal and starts it again: os.Interrupt is
// a clean shutdown, syscall.SIGQUIT and os.Kill are crashes. It returns when the
// server accepts connections again.
func (s *Server) Restart(ctx context.Context, sig os.Signal) error {
	life := s.current()
	if err := life.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signalling postgres: %w", err)
	}
	select {
	case <-life.done:
	case <-ctx.Done():
		return fmt.Errorf("postgres did not end on %v: %w", sig, ctx.Err())
	}
	return s.launch(ctx)
}

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

// letGo gives up what the server holds outside its data. Once only: a later
// server of the same directory uses the same names.
func (s *Server) letGo() {
	s.release.Do(func() {
		if s.sockets != "" {
			os.RemoveAll(s.sockets)
		}
		if s.lock != nil {
			unlockHome(s.lock)
		}
	})
}

func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	return err
}
