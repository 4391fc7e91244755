package catalog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/tailroom/tailroom/internal/jsonvalue"
)

// maxViolations is how many things wrong with its data a publisher is told
// at once.
const maxViolations = 20

// schemaURL is what a schema's references are relative to.
const schemaURL = "catalog:///schema"

// noLoader keeps schemas from reading files or the network.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema can refer only to itself, not to %s", url)
}

// compileSchema compiles a JSON Schema of draft 2020-12, or of the draft that
// its $schema names. As the draft has it, format says what is meant and
// refuses nothing.
func compileSchema(schema []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(schemaURL, doc); err != nil {
		return nil, err
	}
	compiled, err := compiler.Compile(schemaURL)
	if misfit, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		err = misfit.Err
	}
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		first := violations(invalid)[0]
		return nil, fmt.Errorf("%s %s", first.Path, first.Message)
	}
	return compiled, err
}

// validate judges decoded data; the error is a schema_violation.
func validate(schema *jsonschema.Schema, fields map[string]any) error {
	err := schema.Validate(fields)
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return jsonvalue.Refuse(violations(invalid)...)
	}
	return err
}

// violations puts a validation error in words: one for each place and cause,
// by place, at most maxViolations.
func violations(err *jsonschema.ValidationError) []jsonvalue.Violation {
	list := explain(err, nil)
	slices.SortFunc(list, func(a, b jsonvalue.Violation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	list = slices.Compact(list)
	return list[:min(len(list), maxViolations)]
}

// explain appends what e says to list. Groups say it through their causes.
func explain(e *jsonschema.ValidationError, list []jsonvalue.Violation) []jsonvalue.Violation {
	add := func(message string, below ...string) {
		place := append(slices.Clone(e.InstanceLocation), below...)
		list = append(list, jsonvalue.Violation{Path: jsonvalue.Pointer(place...), Message: message})
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range e.Causes {
			list = explain(cause, list)
		}
	case *kind.AnyOf:
		add(alternatives(e))
	case *kind.OneOf:
		if k.Subschemas == nil {
			add(alternatives(e))
		} else {
			add("fits more than one of the forms of which it must have one")
		}
	case *kind.Required:
		for _, name := range k.Missing {
			add("is required", name)
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			add("is not a known field", name)
		}
	case *kind.FalseSchema:
		add("is not allowed")
	case *kind.Type:
		add("must be " + strings.Join(k.Want, " or ") + ", not " + k.Got)
	case *kind.Pattern:
		add("must match the pattern " + k.Want)
	case *kind.Format:
		add("must be a valid " + k.Want)
	default:
		add(strings.TrimPrefix(e.ErrorKind.LocalizedString(message.NewPrinter(language.English)), "value "))
	}
	return list
}

// alternatives puts in one sentence why each of several forms does not fit.
func alternatives(e *jsonschema.ValidationError) string {
	place := jsonvalue.Pointer(e.InstanceLocation...)
	var why []string
	for _, cause := range e.Causes {
		for _, v := range explain(cause, nil) {
			below := strings.TrimPrefix(v.Path, place)
			why = append(why, strings.TrimPrefix(below+" "+v.Message, " "))
		}
	}
	return "fits none of the forms it may have: " + strings.Join(why, "; or ")
}
