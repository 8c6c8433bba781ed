package identity

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	ktesting "k8s.io/client-go/testing"
)

// synctest checks that no goroutine is left: a bubble ends after all of its goroutines.
func TestRun_EndsWithContext(t *testing.T) {
	for name, objects := range map[string][]runtime.Object{
		"empty node":         nil,
		"several namespaces": {newPod("shop", "app", "10.0.0.1"), newPod("ci", "build", "10.0.0.2"), newAccount("shop", "default")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, objects...).run()
				start := time.Now()
				b.stop()
				if err := <-b.stopped; err != nil {
					t.Error(err)
				}
				if waited := time.Since(start); waited > 100*time.Millisecond {
					t.Errorf("it took %s", waited)
				}
			})
		})
	}
}

func TestRun_EndsWithContextDuringAPIServerFailure(t *testing.T) {
	for _, resource := range []string{"pods", "serviceaccounts"} {
		t.Run(resource, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, newPod("shop", "app", "10.0.0.1"))
				fail := func(ktesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("no leader") }
				b.pods.PrependReactor("list", resource, fail)
				b.metadata.PrependReactor("list", resource, fail)
				done := make(chan error)
				ctx, stop := context.WithCancel(t.Context())
				go func() { done <- b.Run(ctx) }()
				time.Sleep(10 * time.Second)
				wantError(t, b.Ready(), NotReady, "have not been read from the API server yet")
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
