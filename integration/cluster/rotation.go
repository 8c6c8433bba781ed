package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"syscall"
	"time"

	"gke-metadata-emulator/integration/internal/process"
)

// endWithin is how long a component of the control plane has to end after a signal.
const endWithin = 10 * time.Second

// SigningKey signs KSA tokens, and verifies them.
type SigningKey struct{ file string }

// signingKeys are those of the cluster.
type signingKeys struct {
	signs    SigningKey
	verifies []SigningKey // the one that signs, too
	made     int
}

// SigningKey returns the key that signs KSA tokens now.
func (c *Cluster) SigningKey() SigningKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys.signs
}

// NewSigningKey makes a key that is not the cluster's yet; see [Cluster.Sign].
func (c *Cluster) NewSigningKey() (SigningKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newSigningKey()
}

// newSigningKey makes a key. The lock is held.
func (c *Cluster) newSigningKey() (SigningKey, error) {
	c.keys.made++
	key := SigningKey{fmt.Sprintf("service-accounts-%d.key", c.keys.made)}
	// RSA, as GKE's: its KSA tokens are RS256.
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return SigningKey{}, err
	}
	return key, c.pki.write(key.file, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))
}

// firstSigningKey is the only one until [Cluster.Sign].
func (c *Cluster) firstSigningKey() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, err := c.newSigningKey()
	c.keys.signs, c.keys.verifies = key, []SigningKey{key}
	return err
}

// Sign restarts the API server and the controllers with a key that signs KSA tokens from
// now on. That key and the others verify tokens and are in [Cluster.JWKS]; tokens of any
// other key are void at once. A rotation without an outage has three steps:
//
//	c.Sign(ctx, old, next) // verifiers learn the next key
//	c.Sign(ctx, next, old) // the next key signs
//	c.Sign(ctx, next)      // when the tokens of the old key have expired
func (c *Cluster) Sign(ctx context.Context, key SigningKey, others ...SigningKey) error {
	ctx, cancel := bounded(ctx, "change of the keys of KSA tokens")
	defer cancel()
	c.mu.Lock()
	c.keys.signs, c.keys.verifies = key, append([]SigningKey{key}, others...)
	c.mu.Unlock()
	// Without an API server, the controllers would end on their own.
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kube-apiserver"} {
		if err := c.stopControl(ctx, name); err != nil {
			return err
		}
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	return c.startControllers()
}

// signingFlags are the API server's.
func (c *Cluster) signingFlags() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	flags := []string{"--service-account-signing-key-file=" + c.pki.file(c.keys.signs.file)}
	for _, key := range c.keys.verifies {
		flags = append(flags, "--service-account-key-file="+c.pki.file(key.file))
	}
	return flags
}

// stopControl ends a component of the control plane as a node's kubelet would.
func (c *Cluster) stopControl(ctx context.Context, name string) error {
	c.mu.Lock()
	i := slices.IndexFunc(c.processes, func(p *process.Process) bool { return p.Name() == name })
	if i < 0 {
		c.mu.Unlock()
		return fmt.Errorf("%s does not run", name)
	}
	p := c.processes[i]
	c.processes = slices.Delete(c.processes, i, i+1)
	c.mu.Unlock()
	if err := p.Crashed(); err != nil {
		return err
	}
	p.ExpectEnd()
	for _, way := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = p.Signal(way) // it may have just ended
		select {
		case <-p.Done():
			return nil
		case <-ctx.Done():
			return p.WithLog(context.Cause(ctx))
		case <-time.After(endWithin):
		}
	}
	return p.WithLog(fmt.Errorf("it runs %s after it was killed", endWithin))
}
