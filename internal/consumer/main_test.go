package consumer_test

import (
	"testing"

	"github.com/tailroom/tailroom/internal/apptest"
)

func TestMain(m *testing.M) { apptest.Main(m) }
