// Package catalog holds the registered event types: what may be published,
// by whom, with which data, and where it goes when the publisher does not
// say. It is read once, at start, from YAML (the embedded default.yaml or
// CATALOG_FILE), and is immutable from then on: all methods may be called
// from many goroutines.
//
// Everything is checked when it is read. A Catalog that exists has compiled
// schemas, templates that give possible rooms and streams, replies that
// exist, and an example of every type that passes all of it.
//
// Refusals of a publisher's data are *problem.Error. What is wrong with the
// catalogue itself is an ordinary error for the operator, which names the
// file, the namespace, the type and the field.
//
//	catalog.go    Catalog: Default, Load, Parse, Lookup
//	type.go       Type: rights, Validate, default rooms and stream
//	template.go   Template: branch:{data.branchId}
//	mirror.go     the catalogue for SQL
//	reply.go      Reply: which event answers a request
//	schema.go     JSON Schema, and its violations in words
//	file.go       the YAML form
//	build.go      from the YAML form to checked types
//	name.go       names of namespaces and types
//	yamljson.go   YAML to JSON, keeping the author's order
//	default.yaml  the platform's thirteen event types
package catalog
