// Client asks for a greeting.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/hull-go/hull"
)

type Request struct{ Name string }
type Reply struct{ Text string }

func main() {
	client, err := hull.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	greeter := client.To("greeter")
	rep, err := hull.Call[Reply](context.Background(), greeter, "greeter.Greeter/Hello", &Request{Name: "Ada"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rep.Text)
}
