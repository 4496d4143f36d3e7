//go:build !unix

package oneport

// descriptors is how many descriptors this process may have open: where nothing bounds them, as many as make sense.
func descriptors() int { return 1 << 16 }
