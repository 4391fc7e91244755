package access

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are those that are trusted to say where a request comes from. The zero
// Proxies trusts none: then the peer is the client.
type Proxies struct {
	trusted []netip.Prefix
}

// ParseProxies reads a comma-separated list of addresses and networks, such as
// 10.0.0.0/8,2001:db8::1. Its errors name the entry that is wrong.
func ParseProxies(list string) (Proxies, error) {
	var p Proxies
	for _, entry := range splitList(list) {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			var address netip.Addr
			if address, err = netip.ParseAddr(entry); err == nil {
				address = address.Unmap().WithZone("")
				prefix = netip.PrefixFrom(address, address.BitLen())
			}
		}
		if err != nil || prefix.Addr().Is4In6() {
			return Proxies{}, fmt.Errorf(
				"%q is neither an address nor a network: want one such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32", entry)
		}
		p.trusted = append(p.trusted, prefix.Masked())
	}
	return p, nil
}

// String returns what ParseProxies reads.
func (p Proxies) String() string {
	texts := make([]string, len(p.trusted))
	for i, prefix := range p.trusted {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// Client is the address that a request comes from. If the peer is a trusted proxy,
// that is the last entry of X-Forwarded-For that is none: what stands before it
// anybody may have written. Forwarded (RFC 7239) is not looked at. The result is
// invalid only when the request has no peer.
func (p Proxies) Client(r *http.Request) netip.Addr {
	client := peer(r)
	if !p.Trusts(client) {
		return client
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		address, ok := parseHop(hop)
		if !ok {
			return client // the proxy before it is the last that is known
		}
		client = address
		if !p.Trusts(client) {
			return client
		}
	}
	return client
}

// Secure reports whether the client came by TLS: to this server, or to the
// trusted proxy that says so with X-Forwarded-Proto. Of several values the last
// one counts, which is that of the nearest proxy.
func (p Proxies) Secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	if !p.Trusts(peer(r)) {
		return false
	}
	values := strings.Split(strings.Join(r.Header.Values("X-Forwarded-Proto"), ","), ",")
	return strings.EqualFold(strings.TrimSpace(values[len(values)-1]), "https")
}

// Trusts reports whether an address is one of them.
func (p Proxies) Trusts(address netip.Addr) bool {
	return slices.ContainsFunc(p.trusted, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// peer is the other end of the request's connection.
func peer(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap().WithZone("")
}

// parseHop reads an entry of X-Forwarded-For: an address, which some proxies
// write with its port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(hop, "["), "]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return address.Unmap().WithZone(""), true
}
