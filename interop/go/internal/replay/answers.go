package replay

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"interop/internal/recording"
)

// compareAnswer waits for the program's answer.
func (p *player) compareAnswer(event recording.Event, call *playing) {
	report := func(field, recorded, live string) { p.report(event, field, recorded, live) }
	select {
	case answer, ok := <-call.answers:
		if !ok {
			report("code", "OK", status.Code(call.err).String()+": "+status.Convert(call.err).Message())
			return
		}
		live, err := recording.ToJSON(answer)
		if err != nil {
			report("message", text(event.Message), err.Error())
			return
		}
		p.names.learn(live)
		p.names.compare("message", event.Message, live, report)
		header, err := call.header()
		if err != nil {
			return
		}
		data := dataOf(header)
		p.names.learn(data)
		for key, value := range event.Metadata {
			p.names.compare("metadata."+key, value, data[key], report)
		}
	case <-time.After(patience):
		p.missed++
		report("call", text(event.Message), "no answer")
	}
}

// compareEnd waits for the end of a call with one answer.
func (p *player) compareEnd(event recording.Event, call *playing) {
	p.open--
	defer call.cancel()
	late := time.After(patience)
	for {
		select {
		case answer, ok := <-call.answers:
			if ok {
				p.report(event, "code", event.Code, "OK: "+fmt.Sprint(answer))
				continue
			}
			code := codes.OK
			if !errors.Is(call.err, io.EOF) {
				code = status.Code(call.err)
			}
			if code.String() != event.Code {
				p.report(event, "code", event.Code+": "+event.Text, code.String()+": "+status.Convert(call.err).Message())
			}
			return
		case <-late:
			p.missed++
			p.report(event, "code", event.Code, "no end")
			return
		}
	}
}

// look takes note of an answer to who only looks; at the end all are compared.
func (p *player) look(event recording.Event, call *playing) {
	if event.Kind == recording.Answer {
		call.recorded = append(call.recorded, event)
		if call.watch && !call.behind {
			// What comes later in the script comes after it here too.
			call.behind = !p.caughtUp(event, call)
		}
		return
	}
	defer call.cancel()
	if call.watch {
		p.compareWatch(call)
		call.watch = false
		return
	}
	p.gather(call, patience, func() bool { return false })
	p.compareFound(event, call)
}

// caughtUp waits until a watch has told as much as it had by then; what a timer brought takes as
// long as it took.
func (p *player) caughtUp(event recording.Event, call *playing) bool {
	wanted := len(turns(messages(call.recorded)))
	enough := func() bool { return len(turns(call.live)) >= wanted }
	wait := p.until(event) + patience
	if p.open > 0 {
		// Somebody waits for an answer meanwhile, and what is told may come with that.
		p.gather(call, optional, enough)
		return true
	}
	p.gather(call, wait, enough)
	return enough()
}

// until is how long it takes until the time at which something was said.
func (p *player) until(event recording.Event) time.Duration {
	at := time.Duration(event.At-p.recording.Events[0].At) * time.Millisecond
	return max(0, at-time.Since(p.start))
}

func messages(events []recording.Event) []map[string]any {
	all := make([]map[string]any, len(events))
	for at, event := range events {
		all[at] = event.Message
	}
	return all
}

// gather takes answers until the end, or until there are enough.
func (p *player) gather(call *playing, wait time.Duration, enough func() bool) {
	late := time.After(wait)
	for !enough() {
		select {
		case answer, ok := <-call.answers:
			if !ok {
				return
			}
			p.keep(call, answer)
		case <-late:
			return
		}
	}
}

func (p *player) keep(call *playing, answer proto.Message) {
	if live, err := recording.ToJSON(answer); err == nil {
		p.names.learn(live)
		call.live = append(call.live, live)
	}
}

// compareFound compares what a query found: it has no order.
func (p *player) compareFound(event recording.Event, call *playing) {
	for _, recorded := range call.recorded {
		name := nameOf(recorded.Message)
		at := slices.IndexFunc(call.live, func(live map[string]any) bool { return nameOf(live) == name })
		if at < 0 {
			p.report(recorded, "found."+name, text(recorded.Message), "nothing")
			continue
		}
		p.names.compare("message", recorded.Message, call.live[at], func(field, was, is string) {
			p.report(recorded, field, was, is)
		})
		call.live = slices.Delete(call.live, at, at+1)
	}
	for _, live := range call.live {
		event.Kind = recording.Answer
		p.report(event, "found."+nameOf(live), "nothing", text(live))
	}
}

// nameOf is the name of what was found.
func nameOf(message map[string]any) string {
	for _, kind := range []string{"networkService", "networkServiceEndpoint"} {
		if found, ok := message[kind].(map[string]any); ok {
			name, _ := found["name"].(string)
			return name
		}
	}
	return ""
}

// compareWatch compares what a watcher was told. How many times the same thing is told is no
// matter: what it comes to each time is.
func (p *player) compareWatch(call *playing) {
	if len(call.recorded) == 0 {
		return
	}
	wanted := turns(messages(call.recorded))
	last := call.recorded[len(call.recorded)-1]
	// A moment more for what was too much.
	p.gather(call, settle, func() bool { return false })
	got := turns(call.live)
	if len(got) != len(wanted) {
		p.report(last, "turns", summary(wanted), summary(got))
		return
	}
	for at, turn := range wanted {
		p.names.compare(fmt.Sprintf("turns.%d", at), turn.last, got[at].last, func(field, was, is string) {
			p.report(last, field, was, is)
		})
	}
}

// turn is the last of several messages that tell the same.
type turn struct {
	what string
	last map[string]any
}

func turns(messages []map[string]any) []turn {
	var all []turn
	for _, message := range messages {
		what := told(message)
		if len(all) > 0 && all[len(all)-1].what == what {
			all[len(all)-1].last = message
			continue
		}
		all = append(all, turn{what, message})
	}
	return all
}

// told is what a message comes to: the kind of event and the states of its connections, or what
// was found or lost.
func told(message map[string]any) string {
	if name := nameOf(message); name != "" {
		return fmt.Sprint(name, " ", message["deleted"] == true)
	}
	kind, _ := message["type"].(string)
	if kind == "" {
		kind = "INITIAL_STATE_TRANSFER"
	}
	connections, _ := message["connections"].(map[string]any)
	var states []string
	for _, connection := range connections {
		is, _ := connection.(map[string]any)
		state, _ := is["state"].(string)
		if state == "" {
			state = "UP"
		}
		states = append(states, state)
	}
	slices.Sort(states)
	return kind + " " + strings.Join(states, " ")
}

func summary(turns []turn) string {
	var all []string
	for _, turn := range turns {
		all = append(all, turn.what)
	}
	return strings.Join(all, ", ")
}
