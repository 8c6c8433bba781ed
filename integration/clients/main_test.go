package clients

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/integration/kubernetes"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		defer cancel()
		var err error
		if cluster, err = kubernetes.Up(ctx, kubernetes.Config{Log: os.Stderr}); err == nil {
			defer cluster.Close()
			err = giveRights(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "clients:", err)
			return 1
		}
		return m.Run()
	}())
}

// giveRights gives the daemon the account and the rights that deploy/ gives it, and
// nothing more.
func giveRights(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: daemonName}}
	if _, err := cluster.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	document, err := os.ReadFile("../../deploy/base/rbac.yaml")
	if err != nil {
		return err
	}
	for part := range bytes.SplitSeq(document, []byte("\n---\n")) {
		if err := create(ctx, part); err != nil {
			return fmt.Errorf("deploy/base/rbac.yaml: %w", err)
		}
	}
	return nil
}

func create(ctx context.Context, document []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	var err error
	switch kind.Kind {
	case "ServiceAccount":
		o := &corev1.ServiceAccount{}
		if err = yaml.UnmarshalStrict(document, o); err == nil {
			_, err = cluster.Client.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		}
	case "ClusterRole":
		o := &rbacv1.ClusterRole{}
		if err = yaml.UnmarshalStrict(document, o); err == nil {
			_, err = cluster.Client.RbacV1().ClusterRoles().Create(ctx, o, metav1.CreateOptions{})
		}
	case "ClusterRoleBinding":
		o := &rbacv1.ClusterRoleBinding{}
		if err = yaml.UnmarshalStrict(document, o); err == nil {
			_, err = cluster.Client.RbacV1().ClusterRoleBindings().Create(ctx, o, metav1.CreateOptions{})
		}
	default:
		err = fmt.Errorf("kind %q is not known to the tests", kind.Kind)
	}
	return err
}
