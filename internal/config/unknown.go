package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// clientNames are variables of the command line's clients.
var clientNames = []string{"TAILROOM_URL", "TAILROOM_TOKEN"}

// serviceLink matches the variables that Kubernetes sets in every pod of a
// namespace with a service called tailroom or tailroom-something.
var serviceLink = regexp.MustCompile(
	`^TAILROOM_(\w+_)?(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=)`)

// refuseNames returns an error for each variable that would be ignored though
// somebody meant something by it.
func refuseNames(env map[string]string) []error {
	known := knownNames()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(env)) {
		switch {
		case !strings.HasPrefix(name, prefix) || slices.Contains(known, name) ||
			slices.Contains(clientNames, name) || serviceLink.MatchString(name+"="+env[name]):
		default:
			errs = append(errs, unknown(name, known))
		}
	}
	return errs
}

func knownNames() []string {
	var names []string
	for _, s := range settings(new(Config)) {
		names = append(names, s.env)
		if s.value.secret {
			names = append(names, s.env+fileSuffix)
		}
	}
	return names
}

// unknown is the error of a misspelt name. The prefix is left out of the
// comparison, since to put it where none belongs is a common mistake.
func unknown(name string, known []string) error {
	bare := strings.TrimPrefix(name, prefix)
	for limit := range 1 + len(bare)/4 {
		for _, candidate := range known {
			if distance(bare, strings.TrimPrefix(candidate, prefix)) == limit {
				return fmt.Errorf("%s is no setting: did you mean %s?", name, candidate)
			}
		}
	}
	return errors.New(name + " is no setting")
}

// distance counts the letters to insert, delete or replace to turn a into b
// (Levenshtein), one row of the table at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
