package recording

import (
	"regexp"
	"time"
)

// watched are the methods that only look: made for a call that is left out, they are too.
var watched = regexp.MustCompile(`/Find$|/MonitorConnections$`)

// LeaveOut drops the calls of some peers, what the program looked up while they went on, and after
// a time (0: never) what begins, and what watches are told. Calls keep their order and get new
// numbers.
func (r *Recording) LeaveOut(peers *regexp.Regexp, after time.Duration) {
	dropped, open := make(map[int]bool), make(map[int]bool)
	began, numbers := make(map[int]bool), make(map[int]int)
	for at := range r.Events {
		event := &r.Events[at]
		call := event.Call
		if !began[call] {
			began[call] = true
			late := after > 0 && event.At > after.Milliseconds()
			unwanted := event.Direction == "in" && peers.MatchString(event.Peer)
			lookup := event.Direction == "out" && len(open) > 0 && watched.MatchString(event.Method)
			if unwanted {
				open[call] = true
			}
			dropped[call] = late || unwanted || lookup
		}
		if event.Kind == End {
			delete(open, call)
		}
	}
	kept := r.Events[:0]
	for _, event := range r.Events {
		late := after > 0 && event.At > after.Milliseconds() && watched.MatchString(event.Method)
		if dropped[event.Call] || late {
			continue
		}
		if numbers[event.Call] == 0 {
			numbers[event.Call] = len(numbers) + 1
		}
		event.Call = numbers[event.Call]
		kept = append(kept, event)
	}
	r.Events = kept
	for peer := range r.Header.Peers {
		if peers.MatchString(peer) {
			delete(r.Header.Peers, peer)
		}
	}
}
