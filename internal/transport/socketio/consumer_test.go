package socketio

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

func TestConsumerName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "printer-7:/printing-ws", consumerName("printer-7", "/printing-ws"))
	for _, subject := range []string{"Käse", strings.Repeat("x", 100), "a b"} {
		name := consumerName(subject, "/printing-ws")
		require.True(t, event.ValidConsumer(name))
		require.Equal(t, name, consumerName(subject, "/printing-ws"))
		require.NotEqual(t, name, consumerName(subject+"!", "/printing-ws"))
	}
	require.True(t, event.ValidConsumer(consumerName("é", "/"+strings.Repeat("n", 63))))
}
