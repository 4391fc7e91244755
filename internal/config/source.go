package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// fileSuffix makes of a secret's name that of the file it can stand in.
const fileSuffix = "_FILE"

// source is where settings are given: the flags or the environment.
type source struct {
	called func(env string) string // what the setting is called there
	get    func(env string) (text string, given bool)
}

func fromFlags(flags *pflag.FlagSet) source {
	name := func(env string) string { return setting{env: env}.flag() }
	return source{
		called: func(env string) string { return "--" + name(env) },
		get: func(env string) (string, bool) {
			f := flags.Lookup(name(env))
			if f == nil || !f.Changed {
				return "", false
			}
			return f.Value.String(), true
		},
	}
}

func fromEnviron(env map[string]string) source {
	return source{
		called: func(name string) string { return name },
		get: func(name string) (string, bool) {
			text := env[name]
			return text, text != ""
		},
	}
}

func parseEnviron(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		env[name] = text
	}
	return env
}

// apply sets the field to what the first source that gives the setting says.
func (s setting) apply(sources []source) (given bool, err error) {
	for _, src := range sources {
		text, name, err := s.find(src)
		if err != nil {
			return true, err
		}
		if name == "" {
			continue
		}
		switch err := s.value.set(text); {
		case err == nil:
			return true, nil
		case s.value.secret:
			return true, fmt.Errorf("%s: %w", name, err)
		default:
			return true, fmt.Errorf("%s: %q: %w", name, text, err)
		}
	}
	return false, nil
}

// find returns what src says of the setting and under which name, "" if it
// says nothing. A secret may stand in the file that src names instead.
func (s setting) find(src source) (text, name string, err error) {
	text, given := src.get(s.env)
	if given {
		name = src.called(s.env)
	}
	if !s.value.secret {
		return text, name, nil
	}
	path, inFile := src.get(s.env + fileSuffix)
	if !inFile {
		return text, name, nil
	}
	fileName := src.called(s.env + fileSuffix)
	if given {
		return "", "", fmt.Errorf("%s and %s are both set: one is enough", name, fileName)
	}
	text, err = readSecret(path)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", fileName, err)
	}
	return text, fileName, nil
}

// readSecret returns the contents of a file without the newline at its end.
func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return "", errors.New("the file is empty")
	}
	return text, nil
}
