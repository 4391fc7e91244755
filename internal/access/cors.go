package access

import (
	"net/http"

	"github.com/tailroom/tailroom/internal/problem"
)

// Middleware is Guard for what answers with problems.
func (o Origins) Middleware(next http.Handler) http.Handler {
	return o.Guard(next, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem.New(problem.Forbidden, Foreign).With("origin", r.Header.Get("Origin")).Write(w)
	}))
}

// Foreign tells a page that is not allowed why.
const Foreign = "pages of this origin may not call: CORS_ORIGINS lists those that may"

// Guard applies the rule to every request that next would answer. An allowed page
// may read the answers, with credentials; preflights are answered here; a page that
// is not allowed gets what refuse says, before anything was done.
func (o Origins) Guard(next, refuse http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		switch {
		case origin == "":
			next.ServeHTTP(w, r)
			return
		case !o.Allowed(r):
			refuse.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin) // browsers refuse * with credentials
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			preflight(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// preflight says what an allowed page may send: any header, because a token
// and not a header's name is what protects a route.
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	if headers := r.Header.Get("Access-Control-Request-Headers"); headers != "" {
		h.Set("Access-Control-Allow-Headers", headers)
	}
	h.Set("Access-Control-Max-Age", "7200") // seconds; the most that Chromium keeps
	w.WriteHeader(http.StatusNoContent)
}
