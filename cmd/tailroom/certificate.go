package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// explainCertificate adds to an error of connecting to the database, with sslmode=verify-full
// or verify-ca, what to do about the certificate.
func explainCertificate(err error) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: the certificate is signed by nobody who is trusted here: "+
			"name the file of its authority in the database's URL, as sslrootcert=…", err)
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		names := append([]string{}, host.Certificate.DNSNames...)
		for _, ip := range host.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		return fmt.Errorf("%w: the certificate is for another host: use a name that it has in the database's URL (%s)",
			err, strings.Join(names, ", "))
	}
	return err
}
