package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tailroom/tailroom/internal/access"
)

// issueTicket gives a page the cookie with which its EventSource may follow
// the stream, for as long as the token is good.
func (a *api) issueTicket(w http.ResponseWriter, r *http.Request) error {
	token, err := access.BearerToken(r)
	if err != nil {
		return err
	}
	ticket, grant, err := a.Ticket(token)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"expiresAt": grant.Expires.UTC()})
	if err != nil {
		return err
	}
	http.SetCookie(w, access.TicketCookie(r, ticket, a.Secure(r), time.Until(grant.Expires)))
	writeJSON(w, http.StatusOK, body)
	return nil
}

// dropTicket takes the cookie away. It asks for no token, because who leaves
// may have none that is good any more.
func (a *api) dropTicket(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, access.NoTicketCookie(r, a.Secure(r)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}
