package main

import (
	"fmt"
	"os/user"

	"github.com/spf13/pflag"
)

// actorFlag adds the flag by which an operator says who he is.
func actorFlag(flags *pflag.FlagSet, to *string) {
	flags.StringVar(to, "actor", "", "`name` of who wants it, kept for ever (default: the operating system's user)")
}

// fillActor sets who wants it, unless he was named.
func fillActor(actor *string) error {
	if *actor != "" {
		return nil
	}
	me, err := user.Current()
	if err != nil {
		return fmt.Errorf("--actor is not given, and who runs this cannot be told: %w", err)
	}
	*actor = me.Username
	return nil
}
