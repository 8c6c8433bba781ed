package attest

import (
	"errors"
	"net/netip"

	"gke-metadata-emulator/identity"
)

// refused returns the error with the reason why a caller has no identity.
func refused(err error, caller netip.Addr) *identity.Error {
	var noPod *NotAPodError
	switch {
	case errors.As(err, &noPod):
		return &identity.Error{Reason: identity.NotAPod, Message: "the caller is a process of the node, not of a pod, according to its cgroup " + noPod.Path + ": only pods get an identity"}
	case errors.Is(err, ErrCgroupGone):
		return &identity.Error{Reason: identity.Gone, Message: err.Error()}
	case errors.Is(err, errNoProof):
		return &identity.Error{Reason: identity.Unattested, Message: "the kernel has no proof of which pod calls from " + caller.String() +
			", and --attestation=require gives no identity without one: connect from a process of the pod, directly; pods of gVisor, Kata and other virtual machines need --attestation=prefer"}
	}
	return &identity.Error{Reason: identity.Unattested, Message: "cannot read from the kernel which pod calls from " + caller.String() + ": see the log of the node's gke-metadata-emulator", Err: err}
}
