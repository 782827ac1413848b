package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
)

// Report the steps of work that must not wait for its reporting.
func ExampleClient_Emitter() {
	c, err := client.New("http://127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	e, err := c.Emitter("nightly-42", client.EmitterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	// Work goes on whatever Emit says: it is for those who want to count.
	_ = e.Keep(buildcast.NewEvent{Type: buildcast.BuildStarted})
	_ = e.Emit(buildcast.NewEvent{Type: buildcast.BuildLog, Data: []byte(`{"line":"compiling"}`)})
	_ = e.Keep(buildcast.NewEvent{Type: buildcast.BuildCompleted})

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		log.Print(err) // such as: 3 events are not stored yet: …
	}
}

// Watch a build to its end.
func ExampleClient_Follow() {
	c, err := client.New("http://127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range c.Follow(context.Background(), "nightly-42", 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Progress, event.Type)
	}
}
