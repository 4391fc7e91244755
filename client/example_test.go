package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
)

// A kitchen's screen: it follows the orders of its branch, and remembers in a file
// how far it has come.
func Example() {
	as, done := exampleServer() // for tests; yours has a URL and tokens
	defer done()
	dir, err := os.MkdirTemp("", "kitchen")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	shop := as(access.Service)
	if _, err := shop.Publish(context.Background(), client.Draft{
		Namespace: "/orders", Type: "newOrder",
		Data: map[string]any{"orderId": "1042", "branchId": "b7", "total": 2550},
	}); err != nil {
		panic(err)
	}

	ctx, closing := context.WithCancel(context.Background())
	kitchen, err := client.New(client.Config{
		Server:     as(access.Web),
		Subscribe:  []client.Subscription{{Namespace: "/orders"}},
		CursorFile: filepath.Join(dir, "cursor"),
		From:       "earliest",
		Handler: func(_ context.Context, e client.Event) error {
			fmt.Println(e.Type, e.Stream, string(e.Data))
			closing()
			return nil // from now on it is behind the cursor
		},
		OnReset: func(_ context.Context, r client.Reset) error {
			fmt.Println("events are missing: load everything anew", r.Snapshot)
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer func() { _ = kitchen.Close() }()
	if err := kitchen.Run(ctx); err != nil {
		panic(err)
	}
	// Output: newOrder order:1042 {"total":2550,"orderId":"1042","branchId":"b7"}
}

// A backend publishes over HTTP. Nothing stays open.
func ExampleServer_Publish() {
	as, done := exampleServer()
	defer done()
	shop := as(access.Service)

	order := client.Draft{
		Namespace: "/orders", Type: "newOrder", Data: map[string]any{"orderId": "1042", "branchId": "b7"},
		ID: client.DeriveID("my shop's orders", "1042"), // the same at every attempt: published once
	}
	for range 2 {
		receipts, err := shop.Publish(context.Background(), order)
		if err != nil {
			panic(err)
		}
		fmt.Println(receipts[0].Stream, receipts[0].Version, receipts[0].Duplicate)
	}
	// Output:
	// order:1042 1 false
	// order:1042 1 true
}

func ExampleServer_History() {
	as, done := exampleServer()
	defer done()
	shop := as(access.Service)
	for _, status := range []string{"accepted", "ready"} {
		if _, err := shop.Publish(context.Background(), client.Draft{
			Namespace: "/orders", Type: "orderStatusUpdate", Data: map[string]any{"orderId": "1042", "branchId": "b7", "status": status},
		}); err != nil {
			panic(err)
		}
	}

	for e, err := range shop.History(context.Background(), client.Query{Namespaces: []string{"/orders"}, Stream: "order:1042"}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(e.Version, e.Type)
	}
	// Output:
	// 1 orderStatusUpdate
	// 2 orderStatusUpdate
}

// Who publishes says which version of the stream he knows. If it is another one,
// the error tells.
func ExampleError() {
	as, done := exampleServer()
	defer done()
	shop := as(access.Service)
	accept := client.Draft{
		Namespace: "/orders", Type: "orderStatusUpdate", ExpectedVersion: new(int64(1)),
		Data: map[string]any{"orderId": "1042", "branchId": "b7", "status": "accepted"},
	}

	_, err := shop.Publish(context.Background(), accept)
	fmt.Println(errors.Is(err, client.ErrVersionConflict))
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(refused.Status, refused.Detail)
		fmt.Println(refused.Conflicts[0].Stream, refused.Conflicts[0].CurrentVersion)
	}
	// Output:
	// true
	// 409 stream order:1042 is at version 0, not 1
	// order:1042 0
}

// An application stores what it has to say, online or not. What the server refuses
// is told.
func ExampleClient_Enqueue() {
	as, done := exampleServer()
	defer done()
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	ctx, closing := context.WithCancel(context.Background())
	agent, err := client.New(client.Config{
		Server: as(access.DesktopApp),
		Outbox: filepath.Join(dir, "outbox"),
		OnRefused: func(_ context.Context, r client.Refusal) error {
			fmt.Println("refused:", r.Err.Code)
			return nil // forget it
		},
		Handler: func(_ context.Context, e client.Event) error {
			fmt.Println("published:", e.Type, e.Stream)
			closing()
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	defer func() { _ = agent.Close() }()

	// Nothing is connected yet. What Enqueue has taken is on the disk.
	for _, data := range []map[string]any{
		{"status": "printed"},
		{"jobId": "j-1", "branchId": "b7", "status": "printed"},
	} {
		if err := agent.Enqueue(client.Draft{Namespace: "/printing-ws", Type: "printJobUpdate", Data: data}); err != nil {
			panic(err)
		}
	}
	fmt.Println("waiting:", agent.Pending())
	if err := agent.Run(ctx); err != nil {
		panic(err)
	}
	// Output:
	// waiting: 2
	// refused: schema_violation
	// published: printJobUpdate job:j-1
}

// A screen asks for a test print, and the agent beside the printer answers.
func ExampleClient_Request() {
	as, done := exampleServer()
	defer done()
	ctx, closing := context.WithCancel(context.Background())
	defer closing()

	var agent *client.Client
	agent, err := client.New(client.Config{
		Server: as(access.DesktopApp), From: "earliest",
		Handler: func(ctx context.Context, e client.Event) error {
			if e.Type != "printer:test" {
				return nil
			}
			_, err := agent.Publish(ctx, e.Reply(client.Draft{
				Type: "printer:test:result",
				Data: map[string]any{"printerId": "kitchen-1", "branchId": "b7", "success": true},
			}))
			return err
		},
	})
	if err != nil {
		panic(err)
	}
	screen, err := client.New(client.Config{Server: as(access.Web)})
	if err != nil {
		panic(err)
	}
	ended := make(chan error, 2)
	for _, c := range []*client.Client{agent, screen} {
		go func() { ended <- c.Run(ctx) }()
	}

	reply, err := screen.Request(ctx, client.Draft{
		Namespace: "/printing-ws", Type: "printer:test",
		Data: map[string]any{"printerId": "kitchen-1", "branchId": "b7"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(reply.Type, string(reply.Data))
	closing()
	fmt.Println(<-ended, <-ended)
	// Output:
	// printer:test:result {"success":true,"branchId":"b7","printerId":"kitchen-1"}
	// <nil> <nil>
}
