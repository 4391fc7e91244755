package config

import (
	"fmt"
	"strconv"

	"github.com/tailroom/tailroom/internal/access"
)

// Limits are those that are counted on each instance by itself. 0 is none;
// rates are in a second.
type Limits struct {
	Connections              int // 0 is what the limit of open files allows
	SessionsPerCompany       int
	SessionsPerAddress       int
	FrameRatePerConnection   int
	FrameRatePerCompany      int
	PublishRatePerConnection int // events
	PublishRatePerCompany    int
}

// off is how a limit is written that there is not.
const off = "off"

// mostOf is the largest number a limit can be.
const mostOf = 1_000_000

// numberOr is a number, or a word that stands for 0.
func numberOr(word string, to *int) field {
	return parsed(to, func(text string) (int, error) {
		if text == word {
			return 0, nil
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostOf {
			return 0, fmt.Errorf("want %s or a number from 1 to %d", word, mostOf)
		}
		return n, nil
	}, func(n int) string {
		if n == 0 {
			return word
		}
		return strconv.Itoa(n)
	})
}

func proxies(to *access.Proxies) field {
	return parsed(to, access.ParseProxies, access.Proxies.String)
}
