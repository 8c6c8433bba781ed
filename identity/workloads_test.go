package identity

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestWorkloads_NewestPodsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objects := []runtime.Object{newAccount("shop", "default")}
		for _, age := range []int{5, 1, 4, 9, 2, 8} {
			objects = append(objects, newPod("shop", fmt.Sprint("aged-", 10-age), fmt.Sprint("10.0.0.", age), func(pod *corev1.Pod) {
				pod.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Duration(age) * time.Minute))
			}))
		}
		b := newFixture(t, objects...).run()
		var got []string
		for _, w := range b.Workloads() {
			got = append(got, w.Pod.Name)
		}
		if !slices.Equal(got, []string{"aged-9", "aged-8", "aged-6", "aged-5", "aged-2", "aged-1"}) {
			t.Errorf("%v", got)
		}
	})
}
