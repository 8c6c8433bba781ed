package routing

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// scopeHost is RT_SCOPE_HOST of rtnetlink(7): the address is this machine's own
// business, and its neighbours are not told.
const scopeHost = 254

// Address puts the metadata address on an interface of the node, so that what pods
// send there is the node's own. It stays when the program ends: without it a pod
// would reach what stands behind the node, in a cloud another metadata server.
type Address struct {
	Interface string // lo
	IP        net.IP // 169.254.169.254
}

// Install adds the address; it is no error that it is there already. It needs
// CAP_NET_ADMIN.
func (a Address) Install() error {
	link, address, err := a.resolve()
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return a.failed("add", err)
	}
	return nil
}

// Remove takes the address away; it is no error that it is not there.
func (a Address) Remove() error {
	link, address, err := a.resolve()
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(link, address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return a.failed("remove", err)
	}
	return nil
}

func (a Address) String() string { return "address" }

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

func (a Address) failed(verb string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("routing address: cannot %s %s on %s: the process needs the capability NET_ADMIN: %w", verb, a.IP, a.Interface, err)
	}
	return fmt.Errorf("routing address: cannot %s %s on %s: %w", verb, a.IP, a.Interface, err)
}
