// Package config holds every setting of the server, in one table: its name in
// the environment, the flag of the same name, the default, what it is for,
// and what values it can have.
//
// A setting comes from its flag, else from its variable, else from the
// default; an empty variable counts as unset. A secret can instead stand in
// the file that its _FILE twin names. Whatever is wrong is an error at start,
// and all errors are reported together: bad values, names of ours that are
// misspelt, and settings of the protocol that this version does not have,
// since to ignore one would be to run less protected than was asked.
//
// Secrets are never printed, neither by errors nor by the log.
//
//	config.go    Config, Load
//	settings.go  the table
//	field.go     how a text becomes a value, and the reverse
//	size.go      sizes in bytes
//	source.go    flags, environment, files
//	unknown.go   names that must not be given
//	secret.go    Secret
package config
