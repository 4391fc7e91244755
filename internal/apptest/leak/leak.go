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
	pieces  map[string]piece  // of tokens and keys, by how they begin
	secrets map[string]string // what each is, by itself
	found   []string
}

// piece is a part of a secret by which it is found.
type piece struct{ text, name string }

// What findings call them.
const (
	aToken  = "a token"
	aTicket = "a ticket"
)

const (
	// keyLength is how much of a piece it is looked for by, and bound to be of no
	// other.
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
func (f *Finder) Token(text string) { f.jwts(text, aToken) }

func (f *Finder) jwts(text, name string) {
	if !strings.Contains(text, "eyJ") {
		return
	}
	for _, jwt := range token.FindAllString(text, -1) {
		f.know(piece{jwt[strings.LastIndexByte(jwt, '.')+1:], name})
	}
}

// Key makes a private key in PEM known, by the end of each of its lines: keys of a
// kind begin alike.
func (f *Finder) Key(name, pem string) {
	for line := range strings.Lines(pem) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") {
			f.know(piece{line[max(0, len(line)-keyLength):], name})
		}
	}
}

// know makes a piece known. A token stays a token if it comes as a ticket as well.
func (f *Finder) know(p piece) {
	if len(p.text) < keyLength {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pieces == nil {
		f.pieces = map[string]piece{}
	}
	if _, known := f.pieces[p.text[:keyLength]]; !known {
		f.pieces[p.text[:keyLength]] = p
	}
}

// Look reads what came from where, and remembers what it finds.
func (f *Finder) Look(where string, text []byte) { f.look(where, text, "") }

// look is Look where one thing is meant to be.
func (f *Finder) look(where string, text []byte, meant string) {
	f.mu.RLock()
	what := f.find(text)
	f.mu.RUnlock()
	if what == "" || what == meant {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.found) < enough {
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
			if p, ok := f.pieces[string(text[start:start+keyLength])]; ok && bytes.HasPrefix(text[start:], []byte(p.text)) {
				return p.name
			}
		}
		start = end
	}
	return ""
}

// isBase64 says which bytes pieces are made of: those of base64, and of base64url,
// which tokens are written in.
var isBase64 = func() (is [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/") {
		is[c] = true
	}
	return is
}()

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
