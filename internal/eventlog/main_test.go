package eventlog_test

import (
	"testing"

	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
