package routing

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// scopeHost is RT_SCOPE_HOST of rtnetlink(7): the address is valid on this machine only,
// and is not announced to neighbours.
const scopeHost = 254

// Address puts the metadata address on an interface of the node, so the node accepts what
// pods send to it. The address stays when this process ends: without it a pod would reach
// a server behind the node, in a cloud another metadata server.
type Address struct {
	Interface string // lo
	IP        net.IP // the metadata address
}

// Install adds the address. It is no error if the interface has it already. Install
// needs CAP_NET_ADMIN.
func (a Address) Install() error {
	link, address, err := a.resolve()
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return a.operationError("add", err)
	}
	return nil
}

// Remove removes the address. It is no error if the interface does not have it.
func (a Address) Remove() error {
	link, address, err := a.resolve()
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(link, address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return a.operationError("remove", err)
	}
	return nil
}

func (a Address) String() string { return ModeAddress }

func (a Address) resolve() (netlink.Link, *netlink.Addr, error) {
	link, err := netlink.LinkByName(a.Interface)
	if err != nil {
		return nil, nil, fmt.Errorf("routing address: interface %s: %w", a.Interface, err)
	}
	bits := 8 * len(a.IP)
	if v4 := a.IP.To4(); v4 != nil {
		a.IP, bits = v4, 32
	}
	return link, &netlink.Addr{IPNet: &net.IPNet{IP: a.IP, Mask: net.CIDRMask(bits, bits)}, Scope: scopeHost}, nil
}

func (a Address) operationError(operation string, err error) error {
	return modeError(ModeAddress, fmt.Sprintf("%s %s on %s", operation, a.IP, a.Interface), capabilityNetAdmin, err)
}
