package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units of sizes, the largest first.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40},
	{"TB", 1e12},
	{"GiB", 1 << 30},
	{"GB", 1e9},
	{"MiB", 1 << 20},
	{"MB", 1e6},
	{"KiB", 1 << 10},
	{"KB", 1e3},
	{"B", 1},
}

// size is a field of bytes, written as 262144, 256KiB or 1GB.
func size(to *int64, least, most int64) field {
	return parsed(to, func(text string) (int64, error) {
		n, err := parseSize(text)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("want a size such as 64MiB, 1GB or 65536, from %s to %s", showSize(least), showSize(most))
		}
		return n, nil
	}, showSize)
}

func parseSize(text string) (int64, error) {
	end := strings.LastIndexAny(text, "0123456789") + 1
	n, err := strconv.ParseInt(text[:end], 10, 64)
	if err != nil {
		return 0, err
	}
	name := cmp.Or(strings.TrimSpace(text[end:]), "B")
	for _, unit := range units {
		if strings.EqualFold(unit.name, name) && n <= math.MaxInt64/unit.bytes {
			return n * unit.bytes, nil
		}
	}
	return 0, errors.New("no such unit, or too large")
}

func showSize(n int64) string {
	for _, unit := range units {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return "0B"
}
