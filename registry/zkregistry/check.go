package zkregistry

// ChecksItself implements registry.SelfChecking: a session that goes on has missed no watch, which ZooKeeper promises and the
// client sees to when it reconnects, and the end of one ends all watches. To begin them anew would cost memory, besides: the
// client keeps each until its znode changes.
func (d *Driver) ChecksItself() {}
