package jsonvalue_test

import (
	"bytes"
	"testing"

	"github.com/tailroom/tailroom/internal/jsonvalue"
)

func BenchmarkCheck(b *testing.B) {
	small := []byte(`{"orderId":"1042","branchId":"b7","total":1250,"currency":"EUR","customer":{"name":"Zoë","phone":"+49 30 1234"}}`)
	large := []byte(`{"lines":[` + string(bytes.Repeat([]byte(`{"sku":"margherita","name":"Pizza \"Margherita\"","quantity":2,"unitPrice":950},`), 120)) + `{}]}`)
	for name, data := range map[string][]byte{"110 bytes": small, "10 KB": large} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := jsonvalue.Check(data, anySize); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
