package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientset "k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/integration/kubernetes"
)

const (
	// placeholder is the provider in the policies of deploy/, which an operator replaces.
	placeholder = "'//iam.googleapis.com/projects/PROJECT_NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER'"
	// builtInProvider is the one of --credentials=fake, which some of the tests use.
	builtInProvider = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo-provider"
	startupTaint    = "gke-metadata-emulator/not-ready"
)

// install gives the daemon exactly the account and the rights that deploy/ gives it, and
// waits until the API server enforces the admission policies.
func install(ctx context.Context, c *kubernetes.Cluster) error {
	_, err := c.Client.CoreV1().Namespaces().Create(ctx, namespaceObject(daemonName), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for _, file := range []string{"base/rbac.yaml", "startup-taint/rbac.yaml", "base/admission.yaml"} {
		document, err := os.ReadFile("../deploy/" + file)
		if err != nil {
			return err
		}
		providers := "'" + provider + "', 'https:" + builtInProvider + "'"
		document = bytes.ReplaceAll(document, []byte(placeholder), []byte(providers))
		for part := range bytes.SplitSeq(document, []byte("\n---\n")) {
			if err := create(ctx, c.Client, part); err != nil {
				return fmt.Errorf("deploy/%s: %w", file, err)
			}
		}
	}
	return policiesHold(ctx, c)
}

func create(ctx context.Context, client clientset.Interface, document []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "ServiceAccount":
		return createAs(ctx, document, client.CoreV1().ServiceAccounts(daemonName).Create)
	case "ClusterRole":
		return createAs(ctx, document, client.RbacV1().ClusterRoles().Create)
	case "ClusterRoleBinding":
		return createAs(ctx, document, client.RbacV1().ClusterRoleBindings().Create)
	case "ValidatingAdmissionPolicy":
		return createAs(ctx, document, client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create)
	case "ValidatingAdmissionPolicyBinding":
		return createAs(ctx, document, client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create)
	}
	return fmt.Errorf("kind %q is not known to the tests", kind.Kind)
}

func createAs[T any](ctx context.Context, document []byte, create func(context.Context, *T, metav1.CreateOptions) (*T, error)) error {
	object := new(T)
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return err
	}
	_, err := create(ctx, object, metav1.CreateOptions{})
	return err
}

// policiesHold waits until each policy refuses what it must refuse: the API server applies a
// policy a moment after its creation.
func policiesHold(ctx context.Context, c *kubernetes.Cluster) error {
	config, err := c.RESTConfigFor(ctx, daemonName, daemonName)
	if err != nil {
		return err
	}
	attacker, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	probe := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
	if _, err := c.Client.CoreV1().Nodes().Create(ctx, probe, metav1.CreateOptions{}); err != nil {
		return err
	}
	defer func() { _ = c.Client.CoreV1().Nodes().Delete(ctx, probe.Name, metav1.DeleteOptions{}) }()
	for policy, try := range map[string]func(context.Context) error{
		"tokens": func(ctx context.Context) error {
			_, err := attacker.CoreV1().ServiceAccounts(daemonName).CreateToken(ctx, daemonName, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
		"nodes": func(ctx context.Context) error {
			patch := []byte(`{"metadata":{"labels":{"stolen":"yes"}}}`)
			_, err := attacker.CoreV1().Nodes().Patch(ctx, probe.Name, types.MergePatchType, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
		"events": func(ctx context.Context) error {
			event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, InvolvedObject: corev1.ObjectReference{Kind: "Node", Namespace: daemonName}}
			_, err := attacker.CoreV1().Events(daemonName).Create(ctx, event, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
	} {
		err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
			return byPolicy(try(ctx)), nil
		})
		if err != nil {
			return fmt.Errorf("the policy of %s is not effective: %w", policy, errors.Join(err, try(ctx)))
		}
	}
	return nil
}

// byPolicy reports whether an admission policy refused a request, and not RBAC.
func byPolicy(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"+daemonName)
}
