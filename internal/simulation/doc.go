// Package simulation makes up a dinner service: orders from the till to the
// door, what is printed and what is not, drivers on their way, stock that runs
// out. Its events are those of the catalogue that is built in.
//
// A Service is a pure generator, told the time by who asks for the next event.
// It knows no clock of its own: what happens later happens a number of events
// later, so that the same story can be told at any rate. What is under way goes
// on before anything new begins, which keeps the number of open orders level.
//
// The same seed, asked at the same times, gives the same events. What belongs
// to one run (orders, jobs, alerts) is numbered with the time of its first
// event, so that a later run does not continue the orders of an earlier one.
// Branches, printers, drivers and products are the same in every run.
//
//	simulation.go  Service, Event: what comes next
//	thread.go      what belongs together
//	company.go     companies, branches and their opening
//	order.go       an order until it is accepted, or not
//	delivery.go    an order until it is with the customer
//	printing.go    printers and print jobs
//	stock.go       what is left of a product
//	menu.go        names, dishes, prices
package simulation
