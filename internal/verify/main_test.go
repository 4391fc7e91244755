package verify_test

import (
	"log/slog"
	"testing"

	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError) // the trouble that tests make is not news
	pgtest.Main(m)
}
