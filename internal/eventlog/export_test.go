package eventlog

import "time"

// Forgetful makes a leader forget what he knows of the outbox after so long.
func (r *Relay) Forgetful(memory time.Duration) { r.memory = memory }
