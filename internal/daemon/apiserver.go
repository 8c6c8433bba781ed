package daemon

import (
	"fmt"
	"net/http"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/internal/apiserver"
	"gke-metadata-emulator/internal/config"
)

// clients of the API server. Each has its own rate limit, so that pod look-ups by many
// connections cannot starve the requests for tokens.
type clients struct {
	http     *http.Client
	watching *apiserver.Client
	requests *apiserver.Client
	metadata metadata.Interface
	events   *apiserver.Client
}

// newClients returns those of the cluster of a kubeconfig file; if the path is empty,
// of the cluster that this pod runs in.
func newClients(kubeconfig string) (*clients, error) {
	restConfig, err := clusterConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	restConfig.UserAgent = "gke-metadata-emulator"
	// The library's default of 5 requests a second is far below what a dense node
	// needs when its pods start at once.
	restConfig.QPS, restConfig.Burst = 100, 200
	c := &clients{}
	if c.http, err = rest.HTTPClientFor(restConfig); err == nil {
		c.watching, err = apiserver.New(restConfig, c.http)
	}
	if err == nil {
		c.requests, err = apiserver.New(restConfig, c.http)
	}
	if err == nil {
		slow := rest.CopyConfig(restConfig)
		slow.QPS, slow.Burst = 5, 20
		c.events, err = apiserver.New(slow, c.http)
	}
	if err == nil {
		c.metadata, err = metadata.NewForConfigAndClient(metadata.ConfigFor(restConfig), c.http)
	}
	if err != nil {
		return nil, fmt.Errorf("API server client: %w", err)
	}
	return c, nil
}

func (c *clients) close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

func clusterConfig(kubeconfig string) (*rest.Config, error) {
	const remedy = "give the path of a kubeconfig file"
	if kubeconfig == "" {
		inCluster, err := rest.InClusterConfig()
		if err != nil {
			return nil, config.FlagErrorf("kubeconfig", remedy, "outside a pod there is no default: %v", err)
		}
		return inCluster, nil
	}
	fromFile, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, config.FlagErrorf("kubeconfig", remedy, "%v", err)
	}
	return fromFile, nil
}
