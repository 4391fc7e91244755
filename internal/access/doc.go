// Package access turns a token into a Grant: who is speaking, for which
// company, and which rooms he may hear and address. Every transport and every
// route asks here, and nowhere else is a right decided.
//
// It owns the verification of JWTs, the roles, and the rule about origins. It
// knows nothing of connections: who holds one asks again when a token is
// renewed and ends it when Grant.Expires has passed.
//
// Whatever is refused here is a *problem.Error whose sentence says what is
// wrong and never repeats the token or what stands in it.
//
//	grant.go    Grant, Role: what a token allows
//	rights.go   the table of what each role may do
//	narrow.go   what a client says of itself beside its token
//	token.go    Verifier: token to Grant; the token of a request
//	key.go      keys: which are strong enough, for what, and their names
//	keyring.go  the keys that may have signed a token, and its verification
//	keyfile.go  public keys from a PEM file
//	keyset.go   public keys from a JWK Set
//	keyfetch.go KeySet: the JWK Set of an issuer, kept up to date
//	cluster.go  Cluster: the keys that instances share
//	ticket.go   tickets: cookies for browsers' event sources
//	claims.go   the claims and their forms
//	revoked.go  Revocations: which tokens are dead before their time
//	rolemap.go  RoleMap: a platform's roles to ours
//	mint.go     Mint: tokens for the command line and for tests
//	origin.go   Origins: which pages may call
//	cors.go     the same rule as HTTP middleware
//	proxies.go  Proxies: where a request comes from
package access
