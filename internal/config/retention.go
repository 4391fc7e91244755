package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Retention is what the log keeps: what is younger than Age, as far as it fits
// into Size. 0 is no limit.
type Retention struct {
	Age  time.Duration
	Size int64 // bytes
}

// String is the form in which it is written, "" when everything is kept.
func (r Retention) String() string {
	var parts []string
	if r.Age > 0 {
		parts = append(parts, showAge(r.Age))
	}
	if r.Size > 0 {
		parts = append(parts, showSize(r.Size))
	}
	return strings.Join(parts, ",")
}

func retention(to *Retention) field {
	return parsed(to, parseRetention, Retention.String)
}

// parseRetention reads an age, a size, or both. A size needs its unit: a bare
// number may have been meant as days.
func parseRetention(text string) (Retention, error) {
	const leastAge, mostAge, leastSize = time.Minute, 100 * 365 * day, 1 << 20
	var r Retention
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		age, ageErr := parseAge(part)
		size, sizeErr := parseSize(part)
		switch {
		case ageErr == nil && age >= leastAge && age <= mostAge && r.Age == 0:
			r.Age = age
		case sizeErr == nil && size >= leastSize && r.Size == 0 && strings.HasSuffix(strings.ToUpper(part), "B"):
			r.Size = size
		default:
			return Retention{}, errors.New("want an age such as 90d or 36h, a size such as 500GB or 20GiB, or both: 90d,500GB; " +
				"at least 1m and 1MiB")
		}
	}
	return r, nil
}

// age is a field of a time that may be days, written as 36h or 90d.
func age(to *time.Duration, least, most time.Duration) field {
	return parsed(to, func(text string) (time.Duration, error) {
		d, err := parseAge(text)
		if err != nil || d < least || d > most {
			return 0, fmt.Errorf("want a time such as 90m, 36h or 7d, from %s to %s", showAge(least), showAge(most))
		}
		return d, nil
	}, func(d time.Duration) string {
		if d == 0 {
			return "" // not set
		}
		return showAge(d)
	})
}

func parseAge(text string) (time.Duration, error) {
	days, found := strings.CutSuffix(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 0 || n > 100*365 {
		return 0, errors.New("not a number of days")
	}
	return time.Duration(n) * day, nil
}

// showAge leaves out the zeros of time.Duration's form: 24h, not 24h0m0s.
func showAge(d time.Duration) string {
	if d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
