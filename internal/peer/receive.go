package peer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/tailroom/tailroom/internal/problem"
)

type clientKey struct{}

// Client is where a request comes from, also when another instance has passed it on.
func (s *Switch) Client(r *http.Request) netip.Addr {
	if client, ok := r.Context().Value(clientKey{}).(netip.Addr); ok {
		return client
	}
	return s.config.Client(r)
}

// Passed reports whether another instance has passed a request on.
func (s *Switch) Passed(r *http.Request) bool {
	_, passed := r.Context().Value(clientKey{}).(netip.Addr)
	return passed
}

// receive answers a request with a voucher. mine says whether its session is this
// instance's: a request is passed on once at most.
func (s *Switch) receive(w http.ResponseWriter, r *http.Request, mine bool, next http.Handler, takenOver func(string, time.Time)) {
	voucher, err := s.believe(r)
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case len(voucher.body) > 0:
		s.hear(w, r, voucher, takenOver)
	case !mine:
		s.refuse(w, r, misdirected)
	default:
		s.metrics.received.WithLabelValues(taken).Inc()
		w.Header().Set(header, taken)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, voucher.client)))
	}
}

// believe returns the request's voucher, and takes it away.
func (s *Switch) believe(r *http.Request) (voucher, error) {
	got, err := openVoucher(s.config.Keys, r.Method, r.RequestURI, r.Header[header])
	switch {
	case err != nil:
		return voucher{}, err
	case !got.current():
		return voucher{}, badClock
	case got.to != s.config.Self || got.from == s.config.Self:
		return voucher{}, misdirected
	case !s.seen.first(got.once, time.Now()):
		return voucher{}, repeated
	}
	r.Header.Del(header)
	return got, nil
}

// refuse says why a request is not believed.
func (s *Switch) refuse(w http.ResponseWriter, r *http.Request, err error) {
	why, ok := errors.AsType[refusal](err)
	if !ok {
		why = badSignature
	}
	s.metrics.received.WithLabelValues(string(why)).Inc()
	slog.DebugContext(r.Context(), "a request between instances was refused", "component", "peer", "reason", why, "remote", r.RemoteAddr)
	w.Header().Set(header, string(why))
	problem.New(problem.Forbidden, why.Error()).Write(w)
}
