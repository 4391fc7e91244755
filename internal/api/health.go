package api

import (
	"encoding/json"
	"net/http"
	"time"
)

// drainRetry is when a client of a draining instance should try again.
const drainRetry = time.Second

// fullRetry is when a client should ask again for room on an instance that has
// as many connections as it may have.
const fullRetry = 5 * time.Second

// Health is how the instance is.
type Health struct {
	Instance string `json:"instance"`
	Version  string `json:"version"`
	// Notifications is "listening", or "poll-only" when none are heard.
	Notifications string `json:"notifications"`
	// Log is "ok", or why the log cannot be read.
	Log      string `json:"log"`
	Position int64  `json:"position"` // the newest this instance has read
	Sessions int    `json:"sessions"`
	Draining bool   `json:"draining"`
}

// healthz is liveness: the process answers. What it says is for people.
func (a *api) healthz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, "ok", http.StatusOK, a.Health(r.Context()))
}

// readyz is readiness: whether new connections should be sent here.
func (a *api) readyz(w http.ResponseWriter, r *http.Request) {
	h := a.Health(r.Context())
	switch {
	case h.Draining:
		writeHealth(w, "draining", http.StatusServiceUnavailable, h)
	case h.Log != "ok":
		writeHealth(w, "unavailable", http.StatusServiceUnavailable, h)
	default:
		writeHealth(w, "ready", http.StatusOK, h)
	}
}

func writeHealth(w http.ResponseWriter, status string, code int, h Health) {
	body, err := json.Marshal(struct {
		Status string `json:"status"`
		Health
	}{status, h})
	if err != nil {
		panic("api: unencodable health: " + err.Error()) // texts and numbers
	}
	writeJSON(w, code, body)
}
