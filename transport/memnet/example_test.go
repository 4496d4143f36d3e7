package memnet_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hull-go/hull/transport/memnet"
)

// Two hosts talk, then somebody pulls the cable for a second.
func Example() {
	n := memnet.New(memnet.Options{})
	defer n.Close()
	l, _ := n.Host("server").Listen(":80")
	c, _ := n.Host("client").Dial(context.Background(), "server:80")
	s, _ := l.Accept()

	cable := n.Pair("server", memnet.Any).Drop(true)
	_, _ = c.Write([]byte("hello"))
	b := make([]byte, 5)
	_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := s.Read(b)
	fmt.Println(err)

	cable.Drop(false)
	_ = s.SetReadDeadline(time.Time{})
	_, _ = s.Read(b)
	fmt.Println(string(b))

	cable.Cut()
	_, err = c.Read(b)
	fmt.Println(errors.Is(err, syscall.ECONNRESET))
	// Output:
	// read tcp server:80->client:32768: i/o timeout
	// hello
	// true
}

// A host that is frozen still accepts connections, as a stopped process does, but answers nothing until it thaws.
func ExampleHost_Freeze() {
	n := memnet.New(memnet.Options{})
	defer n.Close()
	server := n.Host("server")
	l, _ := server.Listen(":80")
	server.Freeze()
	c, err := n.Host("client").Dial(context.Background(), "server:80")
	fmt.Println(err)
	_, err = c.Write([]byte("are you there?"))
	fmt.Println(err)
	server.Thaw()
	s, _ := l.Accept()
	b := make([]byte, 14)
	_, _ = s.Read(b)
	fmt.Println(string(b))
	// Output:
	// <nil>
	// <nil>
	// are you there?
}
