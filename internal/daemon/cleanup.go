package daemon

// Cleanup is the settings of [Cleanup.Run]: it undoes what [Serve.Run] leaves.
type Cleanup struct {
	Interface string
}

// Complete returns a [*FlagError] for a setting that is wrong.
func (c *Cleanup) Complete() error {
	if c.Interface == "" {
		return wrong("interface", "use lo", "is needed")
	}
	return nil
}

// Run removes it; it is no error that nothing is there.
func (c *Cleanup) Run() error {
	return (&Serve{Routing: RoutingAddress, Interface: c.Interface}).route().Remove()
}
