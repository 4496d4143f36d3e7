module github.com/hull-go/hull

go 1.26
