package tailclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// namespaces asks the server which namespaces there are.
func namespaces(ctx context.Context, base *url.URL, token string) ([]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/v1/catalog").String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	client, _ := newClient()
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response, errors.New("the catalogue was not given: "+response.Status))
	}
	var catalogue struct {
		Namespaces []struct {
			Name string `json:"name"`
		} `json:"namespaces"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxMessage)).Decode(&catalogue); err != nil {
		return nil, fmt.Errorf("reading the catalogue: %w", err)
	}
	names := make([]string, len(catalogue.Namespaces))
	for i, namespace := range catalogue.Namespaces {
		names[i] = namespace.Name
	}
	return names, nil
}
