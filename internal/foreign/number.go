package foreign

import "reflect"

// Number returns a stream's number, which its protocol's server keeps to itself, in the field that the path of fields leads to from v; 0 if it cannot be had, since that server
// has changed. A test of each server says so then, and whoever asks has to do without.
func Number(v any, path ...string) uint32 {
	at := reflect.ValueOf(v)
	for _, name := range path {
		if at.Kind() != reflect.Pointer || at.IsNil() || at.Elem().Kind() != reflect.Struct {
			return 0
		}
		field, ok := at.Elem().Type().FieldByName(name)
		if !ok {
			return 0
		}
		next, err := at.Elem().FieldByIndexErr(field.Index)
		if err != nil { // the field is that of a nil pointer's
			return 0
		}
		at = next
	}
	if at.Kind() != reflect.Uint32 {
		return 0
	}
	return uint32(at.Uint())
}
