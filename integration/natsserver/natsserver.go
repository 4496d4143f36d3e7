// Package natsserver runs nats-server in a process of its own: a role for engine.Main.
package natsserver

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Serve runs a server with a configuration file, which it reads again on SIGHUP, and tells its address when it can be reached. It returns when the
// server has ended.
func Serve(file string, listening func(addr string)) error {
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("not ready after a minute")
	}
	listening(s.Addr().String())
	s.WaitForShutdown()
	return errors.New("shut down")
}

// ServeDir runs a server that has its data in dir and listens on addr, "127.0.0.1:-1" for any port.
func ServeDir(dir, addr string, listening func(addr string)) error {
	file := filepath.Join(dir, "nats.conf")
	text := "listen: \"" + addr + "\"\njetstream { store_dir: \"" + filepath.Join(dir, "store") + "\" }\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return Serve(file, listening)
}
