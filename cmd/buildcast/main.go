// Command buildcast shows people what a long build is doing, while it does it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/buildcast/buildcast/internal/cli"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/secretenv"
)

func main() {
	secrets := append(config.DeployVariables(os.Args), config.SecretVariables...)
	if err := secretenv.Hide(os.Args, cli.RunsCommands, secrets); err != nil {
		fmt.Fprintln(os.Stderr, "buildcast:", err)
		os.Exit(1)
	}
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
