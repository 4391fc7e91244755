package examples_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// branch is a branch with its printers, its kitchen, and somebody who reads the
// log and takes the paper that is said to be printed out of the printers.
type branch struct {
	t              testing.TB
	shop           client.Server // as a service
	folder         string        // of the agent
	kitchen, agent *program

	mu    sync.Mutex
	log   []seen
	paper map[string]string // the text of each page that was taken, by the id of its event
	wrong []string          // what must not be
}

// newBranch starts nobody yet but the reader.
func newBranch(t testing.TB, urls ...string) *branch {
	t.Helper()
	service, app := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	b := &branch{
		t: t, folder: memory(t), paper: map[string]string{},
		shop: client.Server{
			URLs: urls, HTTPClient: apptest.Client,
			Token: func(context.Context) (string, error) { return service, nil },
		},
	}
	address, programs := urls[0], build(t)
	for _, url := range urls[1:] {
		address += "," + url
	}
	b.kitchen = newProgram(t, filepath.Join(programs, "kitchen"), service, "-url", address)
	b.agent = newProgram(t, filepath.Join(programs, "printer-agent"), app,
		"-url", address, "-branch", "b7", "-printers", "kitchen-b7,bar-b7", "-dir", b.folder)
	reader, err := client.New(client.Config{Server: b.shop, From: "earliest", Handler: b.read})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- reader.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return b
}

// facts are what the events of printers say.
type facts struct {
	JobID     string  `json:"jobId"`
	OrderID   string  `json:"orderId"`
	PrinterID string  `json:"printerId"`
	Status    string  `json:"status"`
	Text      string  `json:"text"`
	Success   bool    `json:"success"`
	Error     *string `json:"error"`
}

// seen is an event, and what it says.
type seen struct {
	client.Event
	facts
}

func see(e client.Event) seen {
	s := seen{Event: e}
	_ = json.Unmarshal(e.Data, &s.facts)
	return s
}

// kind says which events are meant.
type kind func(seen) bool

func anything(seen) bool { return true }

// final is the last word about a page.
func final(e seen) bool {
	return e.Type == "printer:test:result" || e.Type == "printJobUpdate" && (e.Status == "printed" || e.Status == "expired")
}

func onPaper(e seen) bool { return final(e) && (e.Success || e.Status == "printed") }

func (b *branch) read(_ context.Context, e client.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := see(e)
	b.log = append(b.log, s)
	if !onPaper(s) {
		return nil
	}
	// Now that it is said to be printed, it is taken away. If the page comes again, it
	// was printed twice.
	page := b.page(s.PrinterID, e.CausationID)
	text, err := os.ReadFile(page)
	if err = errors.Join(err, os.Remove(page)); err != nil {
		b.wrong = append(b.wrong, "it is not on paper: "+string(e.Raw)+": "+err.Error())
	}
	if _, twice := b.paper[e.CausationID]; twice {
		b.wrong = append(b.wrong, "it is said twice: "+string(e.Raw))
	}
	b.paper[e.CausationID] = string(text)
	return nil
}

func (b *branch) page(printer, id string) string {
	return filepath.Join(b.folder, "printers", printer, id+".txt")
}

// left lists the pages in the printers.
func (b *branch) left() (pages []string) {
	b.t.Helper()
	pages, err := filepath.Glob(b.page("*", "*"))
	require.NoError(b.t, err)
	return pages
}

// printer says how a printer is.
func (b *branch) printer(id, status string) {
	b.t.Helper()
	require.NoError(b.t, b.tryPrinter(id, status))
}

// tryPrinter is printer for goroutines beside the test's own, which may not end it.
func (b *branch) tryPrinter(id, status string) error {
	path := filepath.Join(b.folder, "printers", id, "status")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if status != "" {
		return os.WriteFile(path, []byte(status+"\n"), 0o600)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// count is how many events there are of a kind.
func (b *branch) count(is kind) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.log {
		if is(e) {
			n++
		}
	}
	return n
}

// await waits until there are so many events of a kind.
func (b *branch) await(n int, is kind, what string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.count(is) >= n }, 4*apptest.Patience, 50*time.Millisecond, what)
}

// publish publishes, however long it takes, and returns the ids.
func (b *branch) publish(drafts ...client.Draft) (ids []string) {
	b.t.Helper()
	ids, err := b.tryPublish(drafts...)
	require.NoError(b.t, err)
	return ids
}

// tryPublish is publish for goroutines beside the test's own, which may not end it.
func (b *branch) tryPublish(drafts ...client.Draft) (ids []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*apptest.Patience)
	defer cancel()
	receipts, err := b.shop.Publish(ctx, drafts...)
	for _, r := range receipts {
		ids = append(ids, r.ID)
	}
	return ids, err
}

func order(number string) client.Draft {
	return client.Draft{Namespace: "/orders", Type: "newOrder", Data: map[string]any{
		"orderId": number, "branchId": "b7", "lines": []any{map[string]any{"name": "Pizza " + number, "quantity": 2}},
	}}
}

func testPage(printer string, patience time.Duration) client.Draft {
	return client.Draft{
		Namespace: "/printing-ws", Type: "printer:test", ReplyBy: time.Now().Add(patience),
		Data: map[string]any{"printerId": printer, "branchId": "b7", "text": "Hello"},
	}
}

func job(printer string, patience time.Duration) client.Draft {
	id := client.DeriveID("", time.Now().String())
	return client.Draft{
		Namespace: "/printing-ws", Type: "printJobUpdate", ReplyBy: time.Now().Add(patience),
		Data: map[string]any{"printerId": printer, "branchId": "b7", "jobId": id, "status": "queued", "text": "Bill"},
	}
}

func queued(e seen) bool { return e.Type == "printJobUpdate" && e.Status == "queued" }

// about narrows a kind to what an event led to.
func about(id string, is kind) kind {
	return func(e seen) bool { return e.CausationID == id && is(e) }
}

func updated(status string) kind {
	return func(e seen) bool { return e.Type == "printJobUpdate" && e.Status == status }
}

func discovered(e seen) bool { return e.Type == "printer:discovered" }

func printerIs(id, status string) kind {
	return func(e seen) bool {
		return (discovered(e) || e.Type == "printerStatusUpdate") && e.PrinterID == id && e.Status == status
	}
}
