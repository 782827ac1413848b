// Command buildcast shows people what a long build is doing, while it does it.
package main

import (
	"context"
	"os"

	"github.com/buildcast/buildcast/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
