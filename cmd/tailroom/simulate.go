package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tailroom/tailroom/internal/access"
)

func simulateCommand() *cobra.Command {
	var c caller
	var s simulator
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Publish a dinner service: orders, printers, drivers, stock",
		Long: `Publish what happens at several companies and branches on a busy evening, at
the rate you want, until the duration is over or Ctrl-C. Every event type of
the catalogue that is built in occurs. The same seed tells the same story, about
other orders. It needs a platform-wide service token.`,
		Example: `  tailroom simulate
  tailroom simulate --rate 500 --companies 10 --branches 20 --duration 1m --seed 7`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	c.register(flags)
	s.register(flags)
	flags.SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return err
		}
		tokens, err := c.tokens(access.Service)
		if err != nil {
			return err
		}
		s.poster = poster{url: c.url(), token: tokens, patience: time.Minute, notice: cmd.ErrOrStderr()}
		s.status = newStatus(cmd.ErrOrStderr())
		return s.run(cmd.Context())
	}
	return cmd
}

func (s *simulator) register(flags *pflag.FlagSet) {
	flags.Float64Var(&s.rate, "rate", 20, "`events` a second")
	flags.IntVar(&s.Companies, "companies", simulatedCompanies, "`number` of companies")
	flags.IntVar(&s.Branches, "branches", simulatedBranches, "`number` of branches of each")
	flags.DurationVar(&s.duration, "duration", 0, "how long; 0 is until Ctrl-C")
	flags.Uint64Var(&s.Seed, "seed", 0, "`number` that decides what happens; 0 is another one each time")
}

func (s *simulator) check() error {
	switch {
	case s.rate <= 0:
		return errors.New("--rate is more than 0 events a second")
	case s.Companies < 1 || s.Branches < 1:
		return errors.New("there is at least one company, with one branch")
	case s.duration < 0:
		return errors.New("--duration is not negative")
	}
	return nil
}
