package verify

// WithPages makes pages so small that a small log has many.
func (c Config) WithPages(rows int) Config {
	c.pageRows = rows
	return c
}
