package codec_test

import (
	"fmt"

	"github.com/hull-go/hull/codec"
)

func ExampleJSON() {
	type request struct {
		Name string `json:"name"`
	}
	var c codec.Codec = codec.JSON{}

	b, err := c.Append(nil, request{Name: "Ada"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(b))

	var got request
	if err := c.Unmarshal(b, &got); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(got.Name)
	// Output:
	// {"name":"Ada"}
	// Ada
}
