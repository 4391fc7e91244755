package config

import (
	"errors"
	"log/slog"

	"github.com/tailroom/tailroom/internal/access"
)

// Secret is a text that prints as [secret]: only string(s) shows it.
type Secret string

// String returns "" for no secret and a placeholder for any other.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[secret]"
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, for JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func anySecret(text string) (Secret, error) { return Secret(text), nil }

func strongSecret(text string) (Secret, error) {
	if access.WeakSecret([]byte(text)) {
		return "", errors.New("want at least 32 bytes, such as openssl rand -hex 32 prints")
	}
	return Secret(text), nil
}
