package hull

// MaxServices and MaxMethods are the bounds that tests go beyond.
const (
	MaxServices = maxServices
	MaxMethods  = maxMethods
)

// Services returns how many services a client watches.
func (c *Client) Services() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.services)
}

// KeptMethods returns how many methods a Conn keeps at hand.
func (c *Conn) KeptMethods() int {
	if ms := c.methods.Load(); ms != nil {
		return len(*ms)
	}
	return 0
}
