// Package leak finds secrets where they must not be: in what a server logs and
// answers. What it is shown it reads at once and does not keep, so that a whole
// suite of tests can show it everything.
package leak

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Finder knows secrets and looks for them. It may be used concurrently.
type Finder struct {
	mu      sync.RWMutex
	tokens  map[string]string // the end of each token, by how that begins
	secrets map[string]string // what each is, by itself
	found   []string
	seen    int64
}

const (
	// keyLength is how much of a token's end it is looked for by, and bound to
	// be of no other.
	keyLength = 16
	// enough leaks to show what is wrong.
	enough = 10
)

// token matches a JWT, whether it is a good one or not.
var token = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)

// Secret makes a text known that must be nowhere. name is what a finding calls it.
func (f *Finder) Secret(name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secrets == nil {
		f.secrets = map[string]string{}
	}
	f.secrets[text] = name
}

// Token makes every JWT in a text known whose signature must be nowhere. One
// without a signature is worth nothing.
func (f *Finder) Token(text string) {
	if !strings.Contains(text, "eyJ") {
		return
	}
	for _, jwt := range token.FindAllString(text, -1) {
		end := jwt[strings.LastIndexByte(jwt, '.')+1:]
		if len(end) < keyLength {
			continue
		}
		f.mu.Lock()
		if f.tokens == nil {
			f.tokens = map[string]string{}
		}
		f.tokens[end[:keyLength]] = end
		f.mu.Unlock()
	}
}

// Look reads what came from where, and remembers what it finds.
func (f *Finder) Look(where string, text []byte) {
	f.mu.RLock()
	what := f.find(text)
	f.mu.RUnlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen += int64(len(text))
	if what != "" && len(f.found) < enough {
		f.found = append(f.found, fmt.Sprintf("%s is in %s: %.300q", what, where, text))
	}
}

func (f *Finder) find(text []byte) string {
	for secret, name := range f.secrets {
		if bytes.Contains(text, []byte(secret)) {
			return name
		}
	}
	for start := 0; start < len(text); start++ {
		end := start
		for end < len(text) && isBase64[text[end]] {
			end++
		}
		for ; start+keyLength <= end; start++ {
			if whole, ok := f.tokens[string(text[start:start+keyLength])]; ok && bytes.HasPrefix(text[start:], []byte(whole)) {
				return "a token"
			}
		}
		start = end
	}
	return ""
}

// isBase64 says which bytes a token is made of, between its dots.
var isBase64 = func() (is [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") {
		is[c] = true
	}
	return is
}()

// Seen is how many bytes were read, and how many tokens are known.
func (f *Finder) Seen() (read int64, tokens int) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.seen, len(f.tokens)
}

// Err says what was found; nil is nothing.
func (f *Finder) Err() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.found) == 0 {
		return nil
	}
	return fmt.Errorf("secrets where they must not be:\n%s", strings.Join(f.found, "\n"))
}

// Write looks at what is logged: a line at a time, as slog's handlers write.
func (f *Finder) Write(line []byte) (int, error) {
	f.Look("the log", line)
	return len(line), nil
}
