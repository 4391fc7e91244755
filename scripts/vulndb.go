//go:build ignore

// Lays out the reports of golang.org/x/vulndb as govulncheck reads them, which is
// described at https://go.dev/doc/security/vuln/database. The module's own
// generator takes a hundred other modules to build.
//
//	go run scripts/vulndb.go reports out 2026-08-13T21:43:54Z
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type vuln struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
}

type module struct {
	Path  string `json:"path"`
	Vulns []vuln `json:"vulns"`
}

func main() {
	log.SetFlags(0)
	reports, out, modified := os.Args[1], os.Args[2], os.Args[3]
	files, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil || len(files) == 0 {
		log.Fatal("there are no reports in ", reports)
	}
	byPath := map[string]*module{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		var report struct {
			ID       string `json:"id"`
			Affected []struct {
				Package struct {
					Name string `json:"name"`
				} `json:"package"`
			} `json:"affected"`
		}
		check(json.Unmarshal(text, &report))
		for _, a := range report.Affected {
			m := byPath[a.Package.Name]
			if m == nil {
				m = &module{Path: a.Package.Name}
				byPath[m.Path] = m
			}
			if v := (vuln{report.ID, modified}); !slices.Contains(m.Vulns, v) {
				m.Vulns = append(m.Vulns, v)
			}
		}
		write(filepath.Join(out, "ID", report.ID+".json"), text)
	}
	var modules []*module
	for _, m := range byPath {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b *module) int { return strings.Compare(a.Path, b.Path) })
	index, err := json.Marshal(modules)
	check(err)
	write(filepath.Join(out, "index", "modules.json"), index)
	write(filepath.Join(out, "index", "db.json"), []byte(`{"modified":"`+modified+`"}`))
}

func write(path string, text []byte) {
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	check(os.WriteFile(path, text, 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
