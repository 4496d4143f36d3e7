//go:build !linux

package muxtransport

// lot is where idle connections wait without a goroutine each, which is not done on this system.
type lot struct{}

func (*lot) park(*serverConn) bool { return false }

func (*lot) remove(*serverConn) {}
