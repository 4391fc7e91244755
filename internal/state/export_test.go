package state

var Merge = merge
