package muxtransport_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hull-go/hull/codec"
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/transport"
	"github.com/hull-go/hull/transport/muxtransport"
)

func Example() {
	server, err := muxtransport.NewServer(echoHandler{}, muxtransport.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go server.ServeConn(c)
		}
	}()

	dialer, err := muxtransport.NewDialer(muxtransport.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, serr := dialer.Dial(context.Background(), ln.Addr().String())
	if serr != nil {
		fmt.Println(serr)
		return
	}
	defer conn.Close()

	hello, answer := []byte("ahoy"), []byte(nil)
	req := &transport.Request{
		Method: "echo.Echo/Echo", Codec: codec.Bytes{}, Message: hello,
		Deadline: policy.Now().Add(time.Second),
	}
	if err := conn.Call(context.Background(), req, &transport.Reply{Message: &answer}); err != nil {
		fmt.Println(err.Code, err.Kind, err.Fate)
		return
	}
	fmt.Println(string(answer))
	// Output: ahoy
}
