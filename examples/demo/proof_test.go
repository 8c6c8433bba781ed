package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/gcs"
)

func TestCheck(t *testing.T) {
	record := func(method string) gcs.Record {
		return gcs.Record{
			Principal: wantGSA, Through: []string{wantFederated}, KSA: wantKSA, Remaining: 59 * time.Minute,
			Method: method, Bucket: bucket, Object: object, Status: http.StatusOK,
		}
	}
	good := []gcs.Record{record("POST"), record("GET")}
	same := uploaded{Bytes: 5, Written: "abc", Read: "abc"}
	if wrote, err := check(same, good); err != nil || wrote.Method != "POST" {
		t.Fatalf("%v of %v", err, wrote)
	}
	for name, change := range map[string]func(r *gcs.Record){
		"another GSA":      func(r *gcs.Record) { r.Principal = "serviceAccount:other@demo-project.iam.gserviceaccount.com" },
		"no GSA":           func(r *gcs.Record) { r.Principal, r.Through = r.Through[0], nil },
		"another KSA":      func(r *gcs.Record) { r.KSA = "default/other" },
		"another way":      func(r *gcs.Record) { r.Through = append(r.Through, "serviceAccount:between@x.iam.gserviceaccount.com") },
		"another object":   func(r *gcs.Record) { r.Object = "other.txt" },
		"refused":          func(r *gcs.Record) { r.Status = http.StatusForbidden },
		"token too old":    func(r *gcs.Record) { r.Remaining = 4 * time.Minute },
		"token too young":  func(r *gcs.Record) { r.Remaining = 2 * time.Hour },
		"nothing was read": func(r *gcs.Record) { r.Method = "POST" },
	} {
		records := slices.Clone(good)
		change(&records[1])
		if _, err := check(same, records); err == nil || !strings.HasPrefix(err.Error(), "the proof failed: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := check(uploaded{Bytes: 5, Written: "abc", Read: "abd"}, good); err == nil {
		t.Error("other bytes pass")
	}
	if _, err := check(same, nil); err == nil {
		t.Error("nothing passes")
	}
}

// A Cloud Storage that is open to all proves nothing.
func TestOpenStorageIsNoProof(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer open.Close()
	if _, err := withoutToken(t.Context(), open.URL); err == nil || !strings.Contains(err.Error(), "the proof failed") {
		t.Errorf("error %v", err)
	}
}

func TestSettings(t *testing.T) {
	env := func(value string) func(string) string {
		return func(string) string { return value }
	}
	for _, test := range []struct {
		args    []string
		oneshot string
		want    bool
		problem string
	}{
		{nil, "", false, ""},
		{nil, "1", true, ""},
		{nil, "0", false, ""},
		{[]string{"--oneshot"}, "", true, ""},
		{nil, "maybe", false, "ONESHOT"},
		{[]string{"--binary", "/nowhere"}, "", false, "make demo"},
		{[]string{"--nonsense"}, "", false, "usage"},
		{[]string{"more"}, "", false, "usage"},
	} {
		s, err := parse(append([]string{"--binary", "/bin/sh"}, test.args...), env(test.oneshot))
		if test.problem == "" && (err != nil || s.oneshot != test.want) {
			t.Errorf("%v ONESHOT=%s: %+v, %v", test.args, test.oneshot, s, err)
		}
		if test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("%v ONESHOT=%s: %v", test.args, test.oneshot, err)
		}
	}
}

func TestChildIsKilledWhenItDoesNotEnd(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	var out screen
	c, err := startChild(ctx, nil, &out, nil, "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
	if err != nil {
		t.Fatal(err)
	}
	for out.String() == "" {
		time.Sleep(5 * time.Millisecond)
	}
	asked := time.Now()
	stop()
	if err := c.wait(); err == nil || time.Since(asked) < grace-time.Second || time.Since(asked) > 2*grace {
		t.Errorf("%v after %s", err, time.Since(asked))
	}
}
