package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"interop/internal/fdconn"
	"interop/internal/gen/registry"
	"interop/internal/meta"
	"interop/internal/recording"
)

const (
	// patience is how long the program may take for what it did at once in the recording: a debug
	// build on a busy machine.
	patience = 10 * time.Second
	// settle is what it gets to take in what it is told on a watch.
	settle = 300 * time.Millisecond
	// optional is what it gets for a call that it need not make, or that may come later.
	optional = time.Second
	// maxMissed is how many waits may be in vain: after those the script makes no sense.
	maxMissed = 4
	// arrival is how long a descriptor may take that belongs to a message that is here.
	arrival = 2 * time.Second
)

// playing is a call of the script while it goes on.
type playing struct {
	method *recording.Method
	// heard is the program's call, of those that it makes.
	heard *heard
	// cancel, header, answers and err are of those that a peer makes.
	cancel  context.CancelFunc
	header  func() (metadata.MD, error)
	answers chan proto.Message
	err     error
	// recorded and live are the answers that are compared as a whole.
	recorded []recording.Event
	live     []map[string]any
	watch    bool
	// tells is that something was told on this watch after its beginning.
	tells bool
	// behind is a watch that was not told what it should have been.
	behind bool
}

// player goes through the script.
type player struct {
	*stage
	// pace has peers call no sooner than they did.
	pace bool
	// allowed tells whether a difference is meant.
	allowed     func(difference) bool
	differences []difference
	calls       map[int]*playing
	ends        map[int]int
	learned     map[int]bool
	missed      int
	// open is how many calls wait for the program's answer.
	open       int
	start      time.Time
	namespaces []string
}

func newPlayer(stage *stage, pace bool, allowed func(difference) bool) *player {
	p := &player{
		stage: stage, pace: pace, allowed: allowed, calls: map[int]*playing{}, ends: map[int]int{}, learned: map[int]bool{},
		// Files that are namespaces, if not all of networks: what is asked of them is to be passed on.
		namespaces: []string{"/proc/self/ns/net", "/proc/self/ns/uts", "/proc/self/ns/ipc", "/proc/self/ns/mnt"},
	}
	for at, event := range stage.recording.Events {
		if event.Kind == recording.End {
			p.ends[event.Call] = at
		}
	}
	return p
}

// play goes through all events and returns what was otherwise.
func (p *player) play(ctx context.Context) ([]difference, error) {
	p.start = time.Now()
	for at, event := range p.recording.Events {
		select {
		case err := <-p.ended:
			p.ended <- err
			return p.differences, fmt.Errorf("the program has ended: %v; its log is %s/program.log", err, p.dir)
		default:
		}
		if err := p.step(ctx, at, event); err != nil {
			return p.differences, fmt.Errorf("event %d (call %d): %w", at+2, event.Call, err)
		}
		if p.missed >= maxMissed {
			return p.differences, nil
		}
	}
	for _, call := range p.calls {
		if call.watch {
			p.compareWatch(call)
		}
	}
	time.Sleep(settle)
	for _, call := range p.heard.rest() {
		event := recording.Event{Direction: "out", Peer: call.peer.id, Method: call.path, Kind: recording.Request}
		p.report(event, "call", "nothing", text(call.asked))
	}
	return p.differences, nil
}

func (p *player) report(event recording.Event, field, recorded, live string) {
	p.differences = append(p.differences, difference{event, field, recorded, live})
}

func (p *player) step(ctx context.Context, at int, event recording.Event) error {
	call := p.calls[event.Call]
	switch {
	case event.Direction == "in" && event.Kind == recording.Request:
		return p.begin(ctx, at, event)
	case event.Direction == "in" && call == nil:
		return nil
	case event.Direction == "in" && looks(event.Method):
		p.look(event, call)
		return nil
	case event.Direction == "in" && event.Kind == recording.Answer:
		p.compareAnswer(event, call)
		return nil
	case event.Direction == "in":
		p.compareEnd(event, call)
		return nil
	case looks(event.Method):
		return p.learn(at, event)
	case event.Kind == recording.Request:
		p.expect(event)
		return nil
	case call == nil || call.heard == nil:
		return nil
	default:
		return p.reply(at, event, call)
	}
}

// learn shows the program, when it looks, what the recorded one saw.
func (p *player) learn(at int, event recording.Event) error {
	if p.learned[at] {
		return nil
	}
	p.learned[at] = true
	call := p.calls[event.Call]
	if call == nil {
		call = &playing{method: recording.FindMethod(event.Method)}
		p.calls[event.Call] = call
	}
	switch event.Kind {
	case recording.Answer:
		message := call.method.NewAnswer()
		if err := p.say(event.Message, message); err != nil {
			return err
		}
		told := event.Message["type"] != nil
		if told && !call.tells {
			// The program may open this watch only now, and what it finds there is no news to it.
			time.Sleep(settle)
		}
		call.tells = call.tells || told
		p.lookups.learn(message)
		if told {
			// What is told on a watch is to be passed on before anything else happens.
			time.Sleep(settle)
		}
		call.recorded = append(call.recorded, event)
	case recording.Request:
		call.live = append(call.live, event.Message)
	case recording.End:
		if strings.HasSuffix(event.Method, "EndpointRegistry/Find") && len(call.live) > 0 {
			return p.forget(call)
		}
	}
	return nil
}

func (p *player) forget(call *playing) error {
	var query registry.NetworkServiceEndpointQuery
	if err := p.say(call.live[0], &query); err != nil || query.GetWatch() {
		return err
	}
	found := make(map[string]bool)
	for _, event := range call.recorded {
		found[nameOf(event.Message)] = true
	}
	p.lookups.forget(&query, found)
	return nil
}

func (p *player) say(data map[string]any, into proto.Message) error {
	said, _ := p.names.say(map[string]any(data)).(map[string]any)
	if said == nil {
		return nil
	}
	return recording.FromJSON(said, into)
}

// begin has a peer call, after the program could see what the recorded one saw until it answered.
func (p *player) begin(ctx context.Context, at int, event recording.Event) error {
	news := false
	for later := at + 1; later < p.ends[event.Call]; later++ {
		other := p.recording.Events[later]
		if other.Direction == "out" && strings.HasSuffix(other.Method, "/Find") && !p.learned[later] {
			news = news || other.Kind == recording.Answer
			if err := p.learn(later, other); err != nil {
				return err
			}
		}
	}
	if p.pace {
		time.Sleep(p.until(event))
	}
	if news {
		time.Sleep(settle)
	}
	from := p.peers[event.Peer]
	if from == nil || from.role == nil {
		return fmt.Errorf("nobody plays %q", event.Peer)
	}
	call := &playing{method: recording.FindMethod(event.Method), answers: make(chan proto.Message, maxEvents)}
	p.calls[event.Call] = call
	if !looks(event.Method) {
		p.open++
	}
	call.watch = looks(event.Method) && (event.Message["watch"] == true || strings.HasSuffix(event.Method, "MonitorConnections"))
	ctx, call.cancel = context.WithCancel(ctx)
	if moment := moments.FindStringSubmatch(fmt.Sprint(event.Metadata[meta.ExpiresKey])); moment != nil {
		seconds, _ := strconv.Atoi(moment[1])
		ctx = withLife(ctx, time.Duration(seconds)*time.Second)
	}
	ctx = metadata.NewOutgoingContext(ctx, p.metadata(event.Metadata))
	ctx, descriptors := fdconn.WithCall(ctx)
	if err := p.pass(event, from, descriptors); err != nil {
		return err
	}
	message := call.method.NewRequest()
	if err := p.say(event.Message, message); err != nil {
		return err
	}
	stream, err := from.role.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, event.Method)
	if err != nil {
		return err
	}
	call.header = stream.Header
	go call.run(stream, message)
	return nil
}

func (c *playing) run(stream grpc.ClientStream, message proto.Message) {
	defer close(c.answers)
	if c.err = stream.SendMsg(message); c.err != nil && c.err != io.EOF {
		return
	}
	if c.err = stream.CloseSend(); c.err != nil {
		return
	}
	for {
		answer := c.method.NewAnswer()
		if c.err = stream.RecvMsg(answer); c.err != nil {
			return
		}
		c.answers <- answer
	}
}

// pass has the descriptors of a message go with it: of the peer's socket where it registers, else
// of a namespace.
func (p *player) pass(event recording.Event, from *peer, call *fdconn.Call) error {
	for _, name := range things.FindAllString(text(event.Message), -1) {
		if !strings.HasPrefix(name, "<inode") {
			continue
		}
		file := from.socket
		if !strings.HasPrefix(event.Method, "/registry.") {
			file = p.namespace(name)
		}
		inode, err := call.SendFile(file)
		if err != nil {
			return err
		}
		if err := p.names.bind(name, inode.URL()); err != nil {
			return err
		}
	}
	return nil
}

// namespace is the same file for the same name.
func (p *player) namespace(name string) string {
	if live, known := p.names.bound(name); known {
		for _, file := range p.namespaces {
			if opened, inode, err := fdconn.Open(file); err == nil {
				_ = opened.Close()
				if inode.URL() == live {
					return file
				}
			}
		}
	}
	file := p.namespaces[0]
	if len(p.namespaces) > 1 {
		p.namespaces = append(p.namespaces[1:], file)
	}
	return file
}

// metadata is what goes with a call beside its token.
func (p *player) metadata(recorded map[string]any) metadata.MD {
	md := metadata.MD{}
	for key, value := range recorded {
		if key == meta.TokenKey || key == meta.ExpiresKey {
			continue
		}
		switch said := p.names.say(value).(type) {
		case string:
			md.Append(key, said)
		case []any:
			for _, one := range said {
				md.Append(key, fmt.Sprint(one))
			}
		default:
			text, _ := json.Marshal(said)
			md.Append(key, string(text))
		}
	}
	return md
}

// expect waits for a call of the program, and compares it.
func (p *player) expect(event recording.Event) {
	call := &playing{method: recording.FindMethod(event.Method)}
	p.calls[event.Call] = call
	// What a timer brings takes as long as it took.
	wait := p.until(event) + patience
	meant := p.allowed(difference{event: event, field: "call"})
	if meant {
		wait = optional
	}
	call.heard = p.heard.expect(p.peers[event.Peer], event.Method, subject(event.Message), wait)
	if call.heard == nil {
		p.heard.skip(event.Method, subject(event.Message))
		if !meant {
			p.missed++
		}
		p.report(event, "call", text(event.Message), "nothing")
		return
	}
	p.names.learn(call.heard.asked)
	p.names.learn(call.heard.metadata)
	report := func(field, recorded, live string) { p.report(event, field, recorded, live) }
	p.names.compare("message", event.Message, call.heard.asked, report)
	for key, value := range event.Metadata {
		p.names.compare("metadata."+key, value, call.heard.metadata[key], report)
	}
	if fault := call.heard.tokenFault(p.recording.Header.ID); fault != "" {
		report("metadata."+meta.TokenKey, "a good one", fault)
	}
	p.arrived(event, call.heard)
}

// arrived waits for the descriptors of what was heard.
func (p *player) arrived(event recording.Event, call *heard) {
	conn := fdconn.FromPeer(call.ctx)
	for _, name := range things.FindAllString(text(event.Message), -1) {
		live, known := p.names.bound(name)
		inode, err := fdconn.ParseInode(live)
		if !known || err != nil || conn == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(call.ctx, arrival)
		file, err := conn.Await(ctx, inode)
		cancel()
		if err != nil {
			p.report(event, "descriptor", name, err.Error())
			continue
		}
		_ = file.Close()
	}
}

// foresee has the peer's monitor show what it showed next: the program may look at once.
func (p *player) foresee(at int, event recording.Event) error {
	for later := at + 1; later < len(p.recording.Events); later++ {
		other := p.recording.Events[later]
		if other.Direction != "out" || other.Peer != event.Peer || other.Kind != recording.Answer ||
			!strings.HasSuffix(other.Method, "/MonitorConnections") {
			continue
		}
		if other.Message["type"] != nil {
			return nil
		}
		return p.learn(later, other)
	}
	return nil
}

// reply answers the program's call as the recorded one was.
func (p *player) reply(at int, event recording.Event, call *playing) error {
	if event.Kind == recording.End {
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(`"` + strings.ToUpper(snake(event.Code)) + `"`)); err != nil {
			return err
		}
		if code != codes.OK {
			call.heard.reply <- reply{err: status.Error(code, event.Text)}
		}
		return nil
	}
	message := call.method.NewAnswer()
	if err := p.say(event.Message, message); err != nil {
		return err
	}
	if err := p.foresee(at, event); err != nil {
		return err
	}
	call.heard.reply <- reply{message: message, header: p.metadata(event.Metadata)}
	return nil
}

// snake is the form in which codes are read: PermissionDenied is PERMISSION_DENIED.
func snake(name string) string {
	var out strings.Builder
	for at, letter := range name {
		if at > 0 && letter >= 'A' && letter <= 'Z' && name != "OK" {
			out.WriteByte('_')
		}
		out.WriteRune(letter)
	}
	return out.String()
}
