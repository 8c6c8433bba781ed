package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/gcs"
)

func TestCheck_RejectsOtherRecords(t *testing.T) {
	record := func(method string) gcs.Record {
		return gcs.Record{
			Principal: expectedGSA, Through: []string{expectedFederated}, KSA: expectedKSA, Remaining: 59 * time.Minute,
			Method: method, Bucket: bucket, Object: object, Status: http.StatusOK,
		}
	}
	valid := []gcs.Record{record("POST"), record("GET")}
	result := uploadResult{Bytes: 5, Written: "abc", Read: "abc"}
	if upload, err := check(result, valid); err != nil || upload.Method != "POST" {
		t.Fatalf("check of a valid record: %v, %v", upload, err)
	}
	for name, change := range map[string]func(r *gcs.Record){
		"another GSA":     func(r *gcs.Record) { r.Principal = "serviceAccount:other@demo-project.iam.gserviceaccount.com" },
		"no GSA":          func(r *gcs.Record) { r.Principal, r.Through = r.Through[0], nil },
		"another KSA":     func(r *gcs.Record) { r.KSA = "default/other" },
		"another chain":   func(r *gcs.Record) { r.Through = append(r.Through, "serviceAccount:between@x.iam.gserviceaccount.com") },
		"another object":  func(r *gcs.Record) { r.Object = "other.txt" },
		"refused":         func(r *gcs.Record) { r.Status = http.StatusForbidden },
		"token too old":   func(r *gcs.Record) { r.Remaining = 4 * time.Minute },
		"token too young": func(r *gcs.Record) { r.Remaining = 2 * time.Hour },
		"no download":     func(r *gcs.Record) { r.Method = "POST" },
	} {
		records := slices.Clone(valid)
		change(&records[1])
		if _, err := check(result, records); err == nil || !strings.HasPrefix(err.Error(), "the proof failed: ") {
			t.Errorf("%s: error %v, want that the proof failed", name, err)
		}
	}
	if _, err := check(uploadResult{Bytes: 5, Written: "abc", Read: "abd"}, valid); err == nil {
		t.Error("check accepts other bytes")
	}
	if _, err := check(result, nil); err == nil {
		t.Error("check accepts no records")
	}
}

// A Cloud Storage that accepts every request proves nothing.
func TestRequestWithoutToken_FailsOnOpenStorage(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer open.Close()
	if _, err := requestWithoutToken(t.Context(), open.URL); err == nil || !strings.Contains(err.Error(), "the proof failed") {
		t.Errorf("error %v", err)
	}
}

func TestParse_ChecksArguments(t *testing.T) {
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

func TestChild_IsKilledAfterGracePeriod(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stdout, w := io.Pipe()
	c, err := startChild(ctx, nil, w, nil, "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	stop()
	if err := c.wait(); err == nil || time.Since(stopped) < gracePeriod-time.Second {
		t.Errorf("the process ended after %s with %v, want it to be killed after %s", time.Since(stopped), err, gracePeriod)
	}
}
