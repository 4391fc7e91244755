package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
)

// field gives a field of a Config its text form.
type field struct {
	set    func(text string) error // the error says what is allowed
	show   func() string
	secret bool // its text must not be repeated in errors
}

// parsed is the field at to, read by parse and written by show.
func parsed[T any](to *T, parse func(string) (T, error), show func(T) string) field {
	return field{
		set: func(text string) error {
			v, err := parse(text)
			if err == nil {
				*to = v
			}
			return err
		},
		show: func() string { return show(*to) },
	}
}

func itself(text string) string { return text }

func text(to *string) field {
	return parsed(to, func(text string) (string, error) { return text, nil }, itself)
}

func choice(to *string, allowed ...string) field {
	return parsed(to, func(text string) (string, error) {
		if !slices.Contains(allowed, text) {
			return "", errors.New("want " + strings.Join(allowed, " or "))
		}
		return text, nil
	}, itself)
}

func onOff(to *bool) field {
	return parsed(to, func(text string) (bool, error) {
		if text != "on" && text != "off" {
			return false, errors.New("want on or off")
		}
		return text == "on", nil
	}, func(on bool) string {
		if on {
			return "on"
		}
		return "off"
	})
}

func number(to *int, least, most int) field {
	return parsed(to, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("want a number from %d to %d", least, most)
		}
		return n, nil
	}, strconv.Itoa)
}

func duration(to *time.Duration) field { return within(to, 10*time.Millisecond, time.Hour) }

func within(to *time.Duration, least, most time.Duration) field {
	return parsed(to, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most {
			return 0, fmt.Errorf("want a time with its unit, such as 500ms or 25s, from %s to %s", showAge(least), showAge(most))
		}
		return d, nil
	}, time.Duration.String)
}

func instanceID(to *string) field {
	return parsed(to, func(text string) (string, error) {
		if !validInstanceID(text) {
			return "", errors.New("want 1 to 100 of A-Z a-z 0-9 . : _ -")
		}
		return text, nil
	}, itself)
}

func validInstanceID(id string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:"
	return id != "" && len(id) <= 100 && strings.Trim(id, allowed) == ""
}

func logLevel(to *slog.Level) field {
	return parsed(to, func(text string) (slog.Level, error) {
		for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			if text == showLevel(level) {
				return level, nil
			}
		}
		return 0, errors.New("want debug, info, warn or error")
	}, showLevel)
}

func showLevel(level slog.Level) string { return strings.ToLower(level.String()) }

func namespaces(to *[]string) field {
	return parsed(to, func(text string) ([]string, error) {
		var list []string
		for name := range strings.SplitSeq(text, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if !event.ValidNamespace(name) {
				return nil, errors.New("want namespaces such as /orders,/availability")
			}
			list = append(list, name)
		}
		return list, nil
	}, func(list []string) string { return strings.Join(list, ",") })
}

func roleMap(to *access.RoleMap) field {
	return parsed(to, access.ParseRoleMap, access.RoleMap.String)
}

func origins(to *access.Origins) field {
	return parsed(to, access.ParseOrigins, access.Origins.String)
}

func keySetURL(to *string) field { return parsed(to, access.ParseKeySetURL, itself) }

func advertiseURL(to *string) field {
	return parsed(to, func(text string) (string, error) {
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Scheme+"://"+u.Host != text {
			return "", errors.New("want a scheme, a host and its port, such as http://10.0.0.7:3001, and nothing behind them")
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
			return "", errors.New("want an address of this machine: " + ip.String() + " is every one of whoever goes there")
		}
		return text, nil
	}, itself)
}

func secret(to *Secret, parse func(string) (Secret, error)) field {
	f := parsed(to, parse, Secret.String)
	f.secret = true
	return f
}
