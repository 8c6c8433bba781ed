package dns

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
)

// accessTimeout is the deadline of reading or of writing a configuration.
const accessTimeout = 10 * time.Second

// The label of a custom ConfigMap that Edit has created, and may delete.
const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "gke-metadata-emulator"
)

// configMapEditor is the part of the API server that stores ConfigMaps (core/v1).
type configMapEditor interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	CreateConfigMap(ctx context.Context, m *corev1.ConfigMap) error
	// Both return a conflict if the ConfigMap has changed since it was read.
	UpdateConfigMap(ctx context.Context, m *corev1.ConfigMap) error
	DeleteConfigMap(ctx context.Context, m *corev1.ConfigMap) error
}

// Cluster is the configuration of a cluster's CoreDNS, in ConfigMaps.
type Cluster struct {
	Client    configMapEditor
	Namespace string
	ConfigMap string // name of the ConfigMap with the Corefile
	Custom    string // name of the ConfigMap with further server blocks; need not exist
}

// NoCorefileError means that the cluster has no CoreDNS, or has its Corefile elsewhere.
type NoCorefileError struct{ Problem string }

func (e *NoCorefileError) Error() string { return e.Problem }

// State returns the state of the cluster's configuration.
func (c *Cluster) State(ctx context.Context) (State, error) {
	current, err := c.read(ctx)
	if err != nil {
		return Absent, err
	}
	return StateOf(current.config)
}

// Edit changes the cluster's configuration by edit, which is [Install] or [Uninstall].
// Before it writes, it calls approve with the difference, which is empty if there is
// none; approve returns whether to write. If another program changes a ConfigMap at
// the same time, both functions are called again for the new content. Edit returns the
// configuration that edit has returned, and whether it was written.
func (c *Cluster) Edit(ctx context.Context, edit func(Config) (Config, error), approve func(diff string) (bool, error)) (Config, bool, error) {
	backoff := wait.Backoff{Steps: 20, Duration: 20 * time.Millisecond, Factor: 1.3, Jitter: 0.5}
	var edited Config
	var written bool
	err := retry.RetryOnConflict(backoff, func() error {
		current, err := c.read(ctx)
		if err != nil {
			return err
		}
		if edited, err = edit(current.config); err != nil {
			return err
		}
		diff := Diff(current.config, edited)
		approved, err := approve(diff)
		if err != nil || !approved || diff == "" {
			return err
		}
		err = c.write(ctx, current, edited)
		written = err == nil
		return err
	})
	return edited, written, err
}

// configMaps are the ConfigMaps that a configuration was read from.
type configMaps struct {
	config       Config
	main, custom *corev1.ConfigMap // custom is nil if it does not exist
}

func (c *Cluster) read(ctx context.Context) (*configMaps, error) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	main, err := c.Client.ConfigMap(ctx, c.Namespace, c.ConfigMap)
	if apierrors.IsNotFound(err) {
		return nil, &NoCorefileError{err.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", c.ConfigMap, err)
	}
	corefile, found := main.Data[Corefile]
	if !found {
		return nil, &NoCorefileError{fmt.Sprintf("%s has no key %s", c.ConfigMap, Corefile)}
	}
	read := &configMaps{config: Config{Corefile: corefile}, main: main}
	custom, err := c.Client.ConfigMap(ctx, c.Namespace, c.Custom)
	if apierrors.IsNotFound(err) {
		return read, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", c.Custom, err)
	}
	read.custom, read.config.Custom = custom, custom.Data
	return read, nil
}

// write updates the ConfigMaps that differ. The API server refuses the update if one
// has changed since it was read, since the update has the version that was read.
func (c *Cluster) write(ctx context.Context, current *configMaps, edited Config) error {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	if current.config.Corefile != edited.Corefile {
		changed := current.main.DeepCopy()
		changed.Data[Corefile] = edited.Corefile
		if err := c.Client.UpdateConfigMap(ctx, changed); err != nil {
			return fmt.Errorf("change ConfigMap %s: %w", c.ConfigMap, err)
		}
	}
	if current.config.Custom[ServerKey] == edited.Custom[ServerKey] {
		return nil
	}
	if err := c.writeCustom(ctx, current.custom, edited.Custom); err != nil {
		return fmt.Errorf("change ConfigMap %s: %w", c.Custom, err)
	}
	return nil
}

// writeCustom creates, updates or deletes the custom ConfigMap.
func (c *Cluster) writeCustom(ctx context.Context, current *corev1.ConfigMap, data map[string]string) error {
	if current == nil {
		err := c.Client.CreateConfigMap(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Custom, Labels: map[string]string{managedByLabel: managedBy}}, Data: data,
		})
		if apierrors.IsAlreadyExists(err) { // another program has created it since it was read
			return apierrors.NewConflict(corev1.Resource("configmaps"), c.Custom, err)
		}
		return err
	}
	if len(data)+len(current.BinaryData) == 0 && current.Labels[managedByLabel] == managedBy {
		return c.Client.DeleteConfigMap(ctx, current)
	}
	changed := current.DeepCopy()
	changed.Data = data
	return c.Client.UpdateConfigMap(ctx, changed)
}
