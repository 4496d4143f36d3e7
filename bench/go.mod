module github.com/hull-go/hull/bench

go 1.26.0

replace github.com/hull-go/hull => ../

tool (
	connectrpc.com/connect/cmd/protoc-gen-connect-go
	github.com/containerd/ttrpc/cmd/protoc-gen-go-ttrpc
	github.com/twitchtv/twirp/protoc-gen-twirp
	storj.io/drpc/cmd/protoc-gen-go-drpc
)

require (
	connectrpc.com/connect v1.21.1
	github.com/containerd/ttrpc v1.2.10
	github.com/hull-go/hull v0.0.0-00010101000000-000000000000
	github.com/twitchtv/twirp v8.1.3+incompatible
	github.com/valyala/fasthttp v1.74.0
	golang.org/x/sys v0.49.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
	storj.io/drpc v0.0.34
)

require (
	github.com/containerd/log v0.1.0 // indirect
	github.com/fsnotify/fsnotify v1.9.0 // indirect
	github.com/klauspost/compress v1.20.0 // indirect
	github.com/molecule-man/go-brrr v1.0.1 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/sirupsen/logrus v1.9.4 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	github.com/zeebo/errs v1.2.2 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)
