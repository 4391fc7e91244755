package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// process is one life of a postmaster.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// launch begins a life and returns when it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	for {
		said, err := s.tryLaunch(ctx)
		if err == nil {
			return nil
		}
		// The sessions of a killed postmaster end a moment after it, and until
		// then their shared memory keeps the next one out.
		if !bytes.Contains(said, []byte("pre-existing shared memory block")) || !pause(ctx) {
			return fmt.Errorf("%w; the end of %s:\n%s", err, s.logPath(), lastLines(said))
		}
	}
}

// tryLaunch also returns what the server logged, if it did not come up.
func (s *Server) tryLaunch(ctx context.Context) (said []byte, err error) {
	output, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	before, err := output.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}

	life, err := spawn(s.command(output))
	if err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, life); err != nil {
		life.abandon(ctx)
		said, _ := io.ReadAll(io.NewSectionReader(output, before, 1<<20))
		return said, err
	}
	s.mu.Lock()
	s.life = life
	s.mu.Unlock()
	return nil, nil
}

func (s *Server) logPath() string { return filepath.Join(s.home, "postgres.log") }

func (s *Server) command(output *os.File) *exec.Cmd {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": s.sockets,
		"port":                    port,
	}
	if !s.cfg.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, s.cfg.Settings)

	args := []string{"-D", s.DataDir()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), args...) //nolint:noctx // it outlives Start
	cmd.Dir = s.home
	cmd.Env = append(environment(), s.cfg.Environ...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = s.account.attributes()
	endWithUs(cmd.SysProcAttr)
	return cmd
}

func (s *Server) awaitReady(ctx context.Context, life *process) error {
	for {
		err := s.ping(ctx)
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		select {
		case <-life.done:
			return errors.New("postgres ended at once")
		default:
		}
		if !pause(ctx) {
			return fmt.Errorf("postgres does not accept connections: %w", ctx.Err())
		}
	}
}

// errRefused marks an answer that waiting does not change.
var errRefused = errors.New("postgres refuses connections")

func (s *Server) ping(ctx context.Context) error {
	const startingUp = "57P03" // or recovering
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code != startingUp {
		return errors.Join(errRefused, err)
	}
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// spawn starts the postmaster and the goroutine that waits for it: only its
// parent can, and one nobody waited for keeps its process id, by which the next
// postmaster believes that it still runs.
func spawn(cmd *exec.Cmd) (*process, error) {
	life := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To the kernel, the parent that endWithUs speaks of is this thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(life.done)
		}
	}()
	return life, <-started
}

// stop shuts down, and kills when the context ends before that is done.
func (p *process) stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended already
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("postgres had not stopped and was killed: %w", ctx.Err())
}

// abandon stops what never became a server, with a context that may have ended.
func (p *process) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = p.stop(ctx)
}

// pause waits one pollInterval; false if the context ended.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(pollInterval):
		return true
	case <-ctx.Done():
		return false
	}
}

// lastLines are the few at the end that tell why.
func lastLines(text []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-20):], []byte("\n"))
}
