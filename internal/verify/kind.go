package verify

import "slices"

// Kind names what is wrong.
type Kind string

// The kinds of faults. Those come first that others may follow from.
const (
	PartitionMisplaced  Kind = "partition_misplaced"
	PartitionOverflow   Kind = "partition_overflow"
	PositionUnnumbered  Kind = "position_above_sequence"
	PartitionCount      Kind = "partition_count"
	EventVanished       Kind = "event_vanished"
	EventChanged        Kind = "event_changed"
	EventMoved          Kind = "event_moved"
	EventAppeared       Kind = "event_appeared"
	EpochWrong          Kind = "epoch_wrong"
	EventMalformed      Kind = "event_malformed"
	RoomForeign         Kind = "room_of_another_company"
	IDDangling          Kind = "id_without_event"
	IDElsewhere         Kind = "id_points_elsewhere"
	IDUnknown           Kind = "id_not_in_window"
	IDKnownTwice        Kind = "id_twice_in_window"
	IDRepeated          Kind = "id_repeated"
	VersionMissing      Kind = "version_missing"
	VersionRepeated     Kind = "version_repeated"
	VersionOrder        Kind = "version_order"
	HeadMissing         Kind = "head_missing"
	HeadRepeated        Kind = "head_repeated"
	HeadWithoutEvents   Kind = "head_without_events"
	HeadBehind          Kind = "head_behind"
	HeadAhead           Kind = "head_ahead"
	HeadElsewhere       Kind = "head_points_elsewhere"
	RequestWithoutEvent Kind = "request_without_event"
	RequestMissing      Kind = "request_not_known"
	AnswerMissing       Kind = "answer_not_known"
	AnswerWrong         Kind = "answer_wrong"
)

// What to do.
const (
	advicePartition = "Retention and new partitions go by tailroom.partitions. Stop the instances, and let the owner " +
		"make that table say what `\\d+ tailroom.events` says, or the other way round."
	adviceSequence = "The next appends draw positions that are taken, and fail. Stop whoever writes to tailroom.events " +
		"by hand, and run `tailroom epoch new`: the log then goes on above its last event."
	adviceLost = "An event that somebody was told of is gone, or was changed. Nothing in Tailroom does that: look for " +
		"whoever writes to the tables by hand, and for a disk or a restore that lost data. Restore the database from a " +
		"backup, or, if the log is to go on as it is, run `tailroom epoch new`."
	adviceLate = "Readers that had passed this position never see what appeared there. Somebody appends without the " +
		"log's lock: look for whoever writes to tailroom.events by hand, and let him use tailroom.append."
	adviceEvent  = "Nothing in Tailroom writes such an event: look for whoever writes to tailroom.events by hand."
	adviceWindow = "A retry of these ids may be taken for a new event, or be told another's position. Stop whoever writes " +
		"to tailroom.recent_ids_0 and recent_ids_1 by hand. The window forgets by itself after two of its lengths; what " +
		"was appended twice because of it stays twice."
	adviceVersion = "Readers that count the versions of these streams stop here. Look for whoever writes to " +
		"tailroom.events by hand. Events are never renumbered: go on with a new stream, or restore the database from a backup."
	adviceHead = "Publishers with an expectedVersion of these streams are wrongly refused, or wrongly let through. Stop " +
		"publishing, and let the owner set the stream's row in tailroom.streams to its last event."
)

const (
	adviceRequest = "Requesters of these wait for nothing, and a second answer may be let through. If an instance with another " +
		"catalogue was at work, let the owner run `UPDATE tailroom.log SET requests_from = 0`, and the maintenance takes them in; otherwise look for whoever writes " +
		"to tailroom.requests by hand."
	adviceAnswer = "Requesters are told another answer than the log's first, or none. Look for whoever writes to " +
		"tailroom.requests by hand, or for an instance whose catalogue has another condition. The owner may delete the row, " +
		"and run `UPDATE tailroom.log SET requests_from = 0`: the maintenance then makes it anew from the log."
)

// class says of a kind which invariant it breaks, and what to do.
type class struct {
	kind         Kind
	invariant    int
	what, advice string
}

var classes = []class{
	{PartitionMisplaced, 1, "a partition is not where tailroom.partitions says", advicePartition},
	{PartitionOverflow, 1, "a partition holds a position that is not its own, where no reader looks for it", adviceEvent},
	{PositionUnnumbered, 1, "the last position is above the sequence that positions are drawn from", adviceSequence},
	{PartitionCount, 1, "a full partition does not hold as many events as when it was counted", adviceLost},
	{EventVanished, 1, "an event vanished while the log was verified", adviceLost},
	{EventChanged, 1, "an event changed while the log was verified", adviceLost},
	{EventMoved, 1, "an event vanished and another appeared while the log was verified", adviceLost},
	{EventAppeared, 5, "an event appeared behind the tip while the log was verified", adviceLate},
	{EpochWrong, 1, "an event is of another epoch than its position", adviceEvent},
	{EventMalformed, 1, "an event has columns that do not fit together", adviceEvent},
	{RoomForeign, 6, "an event is addressed to another company's room", adviceEvent},
	{IDDangling, 1, "the idempotency window knows an id whose event is not in the log", adviceLost},
	{IDElsewhere, 4, "the idempotency window points to another event", adviceWindow},
	{IDUnknown, 4, "the idempotency window does not know an event that is young enough", adviceWindow},
	{IDKnownTwice, 4, "the idempotency window knows an id twice", adviceWindow},
	{IDRepeated, 1, "a company's id is in the log twice within the idempotency window", adviceWindow},
	{VersionMissing, 3, "a stream lacks a version", adviceVersion},
	{VersionRepeated, 3, "a stream has a version twice", adviceVersion},
	{VersionOrder, 3, "a stream's version comes before the version it follows", adviceVersion},
	{HeadMissing, 3, "a stream has events and no head", adviceHead},
	{HeadRepeated, 3, "a stream has more than one head", adviceHead},
	{HeadWithoutEvents, 3, "a stream has a head and no events", adviceHead},
	{HeadBehind, 3, "a stream's head is behind its last event", adviceHead},
	{HeadAhead, 3, "a stream's head is ahead of its last event", adviceHead},
	{HeadElsewhere, 3, "a stream's head has its last version and another position", adviceHead},
	{RequestWithoutEvent, 8, "a request is known that is not in the log", adviceRequest},
	{RequestMissing, 8, "an event that wants an answer is not known as a request", adviceRequest},
	{AnswerMissing, 8, "a request is open though the log has its answer", adviceAnswer},
	{AnswerWrong, 8, "a request has another answer than the first of the log", adviceAnswer},
}

func (k Kind) rank() int { return slices.IndexFunc(classes, func(c class) bool { return c.kind == k }) }
