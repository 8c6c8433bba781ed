package kubernetes

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig returns the path of an administrator's kubeconfig file. It is gone
// after Close.
func (c *Cluster) Kubeconfig() string { return c.file(kubeconfigFile) }

// RESTConfigFor returns the client configuration of a program that runs as the KSA, to test
// its RBAC rules. The token is valid for an hour.
func (c *Cluster) RESTConfigFor(ctx context.Context, namespace, ksa string) (*rest.Config, error) {
	request, err := c.Client.CoreV1().ServiceAccounts(namespace).
		CreateToken(ctx, ksa, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token of KSA %s/%s: %w", namespace, ksa, err)
	}
	return c.config(c.Config.CAData, request.Status.Token), nil
}

// KubeconfigFor is RESTConfigFor as a file. It is gone after Close.
func (c *Cluster) KubeconfigFor(ctx context.Context, namespace, ksa string) (string, error) {
	config, err := c.RESTConfigFor(ctx, namespace, ksa)
	if err != nil {
		return "", err
	}
	path := c.file(namespace + "." + ksa + ".kubeconfig")
	return path, writeKubeconfig(config, path)
}

// JWKS returns the public keys of the KSA tokens, as the API server publishes
// them.
func (c *Cluster) JWKS(ctx context.Context) ([]byte, error) {
	keys, err := c.Client.Discovery().RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("keys of the KSA tokens: %w", err)
	}
	return keys, nil
}

func writeKubeconfig(config *rest.Config, path string) error {
	const name = "test"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: name,
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: config.BearerToken}},
	}, path)
}
