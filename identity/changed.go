package identity

// Changed returns a channel that the cluster's next event closes.
func (k *Kubernetes) Changed() <-chan struct{} { return k.events.Next() }

// Changed returns nil: the list stays as it was read.
func (s *Static) Changed() <-chan struct{} { return nil }
