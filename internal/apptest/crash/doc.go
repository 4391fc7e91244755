// Package crash kills, stops and cuts off real processes under load, and then
// holds the log against what every client was told.
//
// A round is a cluster: a PostgreSQL server of its own, two or three instances,
// and proxies of each instance's own on its two ways to the database. Publishers
// publish over HTTP, NDJSON, WebSockets and with SQL; most repeat what was not
// answered until it is, some leave it at that. Followers read over WebSockets, event
// streams and Socket.IO, and come back to any instance with their cursor, or as its
// library does; a desktop app is started anew and brings nothing. A script of
// faults strikes the processes, PostgreSQL, the lines between them, and the
// machine. After each step of the script everything is mended, everybody has to
// go on, and the records are held against the log; see package check.
//
// go test plays a fixed set of rounds, in which every fault comes once. More are
// drawn at random, each from a seed:
//
//	make crash ROUNDS=20
//	make crash ROUNDS=1 SEED=1234
//
// A seed gives the same script and the same publishers again. What happens at
// which moment of it is up to the machine.
//
//	round_test.go        one round, and what a failed one shows
//	script_test.go       what happens when: from a seed
//	fault_*_test.go      what can happen
//	cluster_test.go      PostgreSQL, the instances, and that they are well again
//	machine_*_test.go    a clock that can be wrong, a disk that can be full
//	publisher_test.go    who publishes; group_test.go what; door_test.go how
//	application_test.go  who publishes with SQL
//	follower_test.go     who reads; socketio_test.go as a page; line_test.go over what
//	evidence_test.go     what all of them were told, and the comparison
//	control_test.go      broken logs and records, which must be found out
package crash
