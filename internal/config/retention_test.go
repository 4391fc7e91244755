package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		Retention
		shown string
	}{
		"":               {Retention{}, ""},
		"90d":            {Retention{Age: 90 * day}, "90d"},
		"36h":            {Retention{Age: 36 * time.Hour}, "36h"},
		"24h":            {Retention{Age: day}, "24h"},
		"90m":            {Retention{Age: 90 * time.Minute}, "1h30m"},
		"500GB":          {Retention{Size: 500e9}, "500GB"},
		"20GiB":          {Retention{Size: 20 << 30}, "20GiB"},
		"90d,500GB":      {Retention{90 * day, 500e9}, "90d,500GB"},
		"500 gb , 90d":   {Retention{90 * day, 500e9}, "90d,500GB"},
		"1m, 1048576B":   {Retention{time.Minute, 1 << 20}, "1m,1MiB"},
		"36500d,1024TiB": {Retention{36500 * day, 1 << 50}, "36500d,1024TiB"},
	} {
		c, err := load(t, []string{"RETENTION=" + text}, nil)
		require.NoError(t, err, text)
		require.Equal(t, want.Retention, c.Retention, text)
		require.Equal(t, want.shown, c.Retention.String(), text)
	}
	for _, text := range []string{
		"90", "5000000000", "90 days", "d", "-1d", "1.5d", "59s", "36501d", "9223372036854775807d", "1023KiB", "off", "0",
		"90d,36h", "1GB,2GB", "90d,", ",", "90d;500GB", "0d", "1GiB,0d", "500G",
	} {
		_, err := load(t, []string{"RETENTION=" + text}, nil)
		require.ErrorContains(t, err, "RETENTION: ", text)
		require.ErrorContains(t, err, "want an age such as 90d or 36h, a size such as 500GB or 20GiB, or both", text)
	}
}

func TestIDWindow(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": day, "24h": day, "1d": day, "1m": time.Minute, "30d": 30 * day, "720h": 30 * day} {
		c, err := load(t, []string{"TAILROOM_ID_WINDOW=" + text}, nil)
		require.NoError(t, err, text)
		require.Equal(t, want, c.IDWindow, text)
	}
	for _, text := range []string{"59s", "31d", "7", "0", "-1h"} {
		_, err := load(t, []string{"TAILROOM_ID_WINDOW=" + text}, nil)
		require.ErrorContains(t, err, "want a time such as 90m, 36h or 7d, from 1m to 30d", text)
	}
}
