package board

import "fmt"

// ListRequest asks for the newest messages of a room.
type ListRequest struct {
	// Room is where to look; empty = Wall.
	Room string `json:"room,omitempty"`
	// Limit is how many to return at most, 1 to MaxList; 0 = DefaultList.
	Limit int `json:"limit,omitempty"`
}

// Validate returns what is wrong with the request, or nil, and fills in the defaults.
func (r *ListRequest) Validate() error {
	if r.Room == "" {
		r.Room = Wall
	}
	if err := validID("room", r.Room); err != nil {
		return err
	}
	if r.Limit == 0 {
		r.Limit = DefaultList
	}
	if r.Limit < 1 || r.Limit > MaxList {
		return fmt.Errorf("limit is %d: give 1 to %d", r.Limit, MaxList)
	}
	return nil
}

// ListReply holds messages, the newest first.
type ListReply struct {
	Messages []Message `json:"messages"`
	// Node is who answered.
	Node string `json:"node,omitempty"`
	// Sum is the checksum of Messages.
	Sum uint32 `json:"sum"`
}

// Seal sets the checksum.
func (r *ListReply) Seal() { r.Sum = r.sum() }

func (r *ListReply) sum() uint32 {
	crc := uint32(len(r.Messages))
	for i := range r.Messages {
		crc = r.Messages[i].sum(crc)
	}
	return crc
}

// Check returns an error unless the reply says what its node sealed.
func (r *ListReply) Check() error {
	if got := r.sum(); got != r.Sum {
		return fmt.Errorf("the list does not fit its checksum (%08x, not %08x): node %s gives wrong answers", got, r.Sum, r.Node)
	}
	return nil
}

// Spoil makes the reply a wrong answer.
func (r *ListReply) Spoil() {
	if len(r.Messages) == 0 {
		r.Messages = []Message{{ID: "ghost", Author: "nobody", Text: "this message does not exist"}}
		return
	}
	r.Messages[0].Text = "this is not what was written"
}

// SaveReply holds the message as it is stored. It answers Save and Post.
type SaveReply struct {
	Message Message `json:"message"`
	// Node is who answered.
	Node string `json:"node,omitempty"`
	// Sum is the checksum of Message.
	Sum uint32 `json:"sum"`
}

// Seal sets the checksum.
func (r *SaveReply) Seal() { r.Sum = r.Message.sum(0) }

// Check returns an error unless the reply says what its node sealed.
func (r *SaveReply) Check() error {
	if got := r.Message.sum(0); got != r.Sum {
		return fmt.Errorf("the message does not fit its checksum (%08x, not %08x): node %s gives wrong answers", got, r.Sum, r.Node)
	}
	return nil
}

// Spoil makes the reply a wrong answer.
func (r *SaveReply) Spoil() { r.Message.ID = "not-" + r.Message.ID }

// PostRequest asks the service to store a message under an id of its own making.
type PostRequest struct {
	Room   string `json:"room,omitempty"`
	Author string `json:"author"`
	Text   string `json:"text"`
}
