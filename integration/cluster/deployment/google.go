package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster"
)

// The offline Google's project, and the provider that trusts the cluster's issuer.
const (
	ProjectID     = "prod-project"
	ProjectNumber = "998877665544"
	Pool          = "//iam.googleapis.com/projects/" + ProjectNumber + "/locations/global/workloadIdentityPools/on-prem"
	Provider      = Pool + "/providers/cluster-1"
)

const googleAddress = "127.0.0.1:8988" // of each node: the daemon uses http only there

// ServeGoogle serves the offline Google in the node's network, until the test
// ends or the node does.
func (i *Installation) ServeGoogle(t T, n *cluster.Node) {
	t.Helper()
	listener, err := n.Listen(googleAddress)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: i.Google, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// Principal is the KSA as the offline Google sees it with federation.
func Principal(namespace, ksa string) string {
	return "principal:" + Pool + "/subject/system:serviceaccount:" + namespace + ":" + ksa
}

// GSA makes a GSA that a KSA may be, and returns its address.
func (i *Installation) GSA(namespace, ksa string) string {
	gsa := ksa + "-" + namespace + "@" + ProjectID + ".iam.gserviceaccount.com"
	if err := i.Google.Bind(gsa, "roles/iam.workloadIdentityUser", Principal(namespace, ksa)); err != nil {
		panic(err) // cannot happen: the provider's pool exists
	}
	return gsa
}

// KSA creates a KSA that is linked to a new GSA, and returns the GSA's address.
func (i *Installation) KSA(t T, namespace, name string) string {
	t.Helper()
	gsa := i.GSA(namespace, name)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{identity.AnnotationGSA: gsa}}}
	if _, err := i.Cluster.Client.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return gsa
}

// Namespace makes one that ends with the test.
func (i *Installation) Namespace(t T) string {
	t.Helper()
	namespaces := i.Cluster.Client.CoreV1().Namespaces()
	made, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "team-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := within(context.WithoutCancel(t.Context()), removedWithin)
		defer cancel()
		if err := namespaces.Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return made.Name
}

// Right returns an error unless the offline Google accepts the token as the GSA's.
func (i *Installation) Right(token, gsa string) error {
	grant, known := i.Google.Inspect(token)
	if !known {
		return errors.New("the token is unknown to Google")
	}
	if grant.Principal != "serviceAccount:"+gsa {
		return fmt.Errorf("the token is of %s, not of %s", grant.Principal, gsa)
	}
	return nil
}
