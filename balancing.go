package hull

import (
	"errors"

	"github.com/hull-go/hull/balance"
)

// WithBalancing changes how the nodes of services are chosen, in ways that no document can say: by a strategy of one's own, or by a function that
// keeps nodes out (balance.Options.Strategy and Filter). tune gets what the document says of a service and changes it, when the service is first
// called and with each new document. It must be quick, must not call the client, and gives each call a Strategy of its own if that has a
// state. Options that are not valid are the error of the service's first call.
func WithBalancing(tune func(service string, o *balance.Options)) ClientOption {
	return clientOption(func(o *clientOptions) error {
		if tune == nil {
			return errors.New("WithBalancing: no function given")
		}
		o.tune = tune
		return nil
	})
}
