package access

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// LoadPublicKeys reads a PEM file of public keys and certificates: RSA of at
// least 2048 bits, EC P-256 or Ed25519. Of a certificate only the key counts,
// not its dates and who signed it. A file with anything else in it, above all
// with a private key, is refused as a whole.
func LoadPublicKeys(path string) ([]PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("JWT_PUBLIC_KEY_FILE: %w", err)
	}
	keys, err := parsePublicKeys(text)
	if err != nil {
		return nil, fmt.Errorf("JWT_PUBLIC_KEY_FILE: %s: %w", path, err)
	}
	return keys, nil
}

func parsePublicKeys(text []byte) ([]PublicKey, error) {
	announced := bytes.Count(text, []byte("-----BEGIN "))
	var keys []PublicKey
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		key, err := publicKeyOf(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	switch {
	case announced == 0:
		return nil, errors.New("there is no public key in it: want PEM, with BEGIN PUBLIC KEY or BEGIN CERTIFICATE")
	case len(keys) < announced: // the decoder passes over what is broken
		return nil, fmt.Errorf("%d of its %d PEM blocks are cut off or garbled", announced-len(keys), announced)
	}
	return keys, nil
}

func publicKeyOf(block *pem.Block) (PublicKey, error) {
	var key any
	var err error
	switch {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return PublicKey{}, errors.New("it is a private key, which belongs to the issuer of the tokens alone: " +
			"take it away from here, and use what openssl pkey -in private.pem -pubout prints")
	case block.Type == "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	default:
		return PublicKey{}, fmt.Errorf("%q is no public key: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
	}
	if err != nil {
		return PublicKey{}, err
	}
	return newPublicKey("", key)
}
