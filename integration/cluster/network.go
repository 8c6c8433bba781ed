package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The cluster's addresses. They can be fixed, as none is seen outside of its
// network namespaces.
const (
	controlAddress = "10.210.0.1"
	linkBits       = 24
	podRanges      = "10.211.0.0/16"
	serviceRange   = "10.96.0.0/16"
	apiAddress     = "10.96.0.1"
	dnsAddress     = "10.96.0.10"
	apiPort        = "6443"
	linkName       = "eth0"
	bridgeName     = "nodes"
)

func nodeAddress(index int) string { return fmt.Sprintf("10.210.0.%d", 11+index) }

// Few, so that addresses are reused soon, by other pods: pods that run at a time,
// and addresses besides, for those that are about to go.
const (
	podsOnNode     = 12
	maxPodsOnNode  = 200
	addressesAhead = 3
)

func lastPod(index, pods int) string {
	return fmt.Sprintf("10.211.%d.%d", 1+index, 1+pods+addressesAhead)
}
func podRange(index int) string { return fmt.Sprintf("10.211.%d.0/24", 1+index) }

// inNetwork calls do with this thread in the network namespace of a process.
func inNetwork(pid int, do func() error) error {
	result := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine, so no other goroutine
		// gets it.
		runtime.LockOSThread()
		ns, err := netns.GetFromPid(pid)
		if err == nil {
			err = errors.Join(netns.Set(ns), ns.Close())
		}
		if err == nil {
			err = do()
		}
		result <- err
	}()
	return <-result
}

// networkOf returns a handle to the network of a process.
func networkOf(pid int) (*netlink.Handle, netns.NsHandle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, -1, err
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, -1, errors.Join(err, ns.Close())
	}
	return handle, ns, nil
}

// makeSwitch makes the bridge that connects the nodes, in the control plane's network.
func makeSwitch(pid int) error {
	control, ns, err := networkOf(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	defer control.Close()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := control.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := up(control, "lo"); err != nil {
		return err
	}
	return upWith(control, bridgeName, controlAddress)
}

// connect gives a node its link, and routes between it and the other nodes' pods.
func connect(controlPID, nodePID, index, nodes int) error {
	control, controlNS, err := networkOf(controlPID)
	if err != nil {
		return err
	}
	defer controlNS.Close()
	defer control.Close()
	node, nodeNS, err := networkOf(nodePID)
	if err != nil {
		return err
	}
	defer nodeNS.Close()
	defer node.Close()

	bridge, err := control.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	outer := fmt.Sprintf("node-%d", index)
	if old, err := control.LinkByName(outer); err == nil {
		// The link of the node before its reboot: it ends with that network, but not at once.
		if err := control.LinkDel(old); err != nil {
			return fmt.Errorf("old link: %w", err)
		}
	}
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: outer, MasterIndex: bridge.Attrs().Index},
		PeerName:      linkName,
		PeerNamespace: netlink.NsFd(nodeNS),
	}
	if err := control.LinkAdd(pair); err != nil {
		return fmt.Errorf("link of a node: %w", err)
	}
	if err := up(control, outer); err != nil {
		return err
	}
	if err := up(node, "lo"); err != nil {
		return err
	}
	if err := upWith(node, linkName, nodeAddress(index)); err != nil {
		return err
	}
	// Nothing is behind it. But a packet to a Service needs a route, before
	// kube-proxy's rules give it another destination.
	if err := route(node, "0.0.0.0/0", controlAddress); err != nil {
		return err
	}
	for other := range nodes {
		if other != index {
			if err := route(node, podRange(other), nodeAddress(other)); err != nil {
				return err
			}
		}
	}
	return route(control, podRange(index), nodeAddress(index))
}

func up(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

func upWith(h *netlink.Handle, name, address string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(linkBits, 32)}})
	}
	if err != nil {
		return fmt.Errorf("address of interface %s: %w", name, err)
	}
	return up(h, name)
}

func route(h *netlink.Handle, destination, gateway string) error {
	prefix, err := netip.ParsePrefix(destination)
	if err != nil {
		return err
	}
	to := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
	if err := h.RouteReplace(&netlink.Route{Dst: to, Gw: net.ParseIP(gateway)}); err != nil {
		return fmt.Errorf("route to %s: %w", destination, err)
	}
	return nil
}

// dialIn connects from the network of a process.
func dialIn(ctx context.Context, pid int, network, address string) (conn net.Conn, err error) {
	err = inNetwork(pid, func() error {
		var dialer net.Dialer
		var dialing error
		conn, dialing = dialer.DialContext(ctx, network, address)
		return dialing
	})
	return conn, err
}
