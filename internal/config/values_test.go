package config

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// The chart has only the patterns of durations, the daemon has the limits.
func TestPattern_OfDurationsAgreesWithTheCheck(t *testing.T) {
	for duration := time.Duration(0); duration <= 2*time.Hour; duration += 500 * time.Millisecond {
		p := Policy{MaxTokenLife: duration}
		valid := p.complete(Federation) == nil
		var texts []string
		if duration%time.Second == 0 {
			texts = append(texts, duration.String(), fmt.Sprintf("%ds", duration/time.Second))
		}
		if duration != 0 && duration%time.Minute == 0 {
			texts = append(texts, fmt.Sprintf("%dm", duration/time.Minute))
		}
		for _, text := range texts {
			if maxTokenLifeForm.MatchString(text) != valid {
				t.Errorf("--max-token-life=%s: the check accepts it: %t, the pattern does not agree", text, valid)
			}
		}
	}
	for duration := time.Duration(0); duration <= 25*time.Second; duration += 50 * time.Millisecond {
		valid := (&Pods{IdentityWait: duration}).check() == nil
		for _, text := range []string{fmt.Sprintf("%dms", duration/time.Millisecond), fmt.Sprintf("%gs", duration.Seconds())} {
			if identityWaitForm.MatchString(text) != valid {
				t.Errorf("--identity-wait=%s: the check accepts it: %t, the pattern does not agree", text, valid)
			}
		}
	}
}

func TestFlags_DefaultsHaveTheFormOfTheFlag(t *testing.T) {
	stated := 0
	for _, settings := range []Settings{&Serve{}, &Standalone{}, &FakeGoogle{}, &Conformance{}, &Probe{}, &Cleanup{}, &DNSEdit{}, &DNSStatus{}} {
		for _, group := range settings.Flags() {
			group.VisitAll(func(f *pflag.Flag) {
				if f.DefValue == "" {
					return
				}
				if pattern := Pattern(f); pattern != "" {
					stated++
					if !regexp.MustCompile(pattern).MatchString(f.DefValue) {
						t.Errorf("%T: the default of --%s, %q, does not match %s", settings, f.Name, f.DefValue, pattern)
					}
				}
				if choices := Choices(f); choices != nil {
					stated++
					if !slices.Contains(choices, f.DefValue) {
						t.Errorf("%T: the default of --%s, %q, is none of %q", settings, f.Name, f.DefValue, choices)
					}
				}
			})
		}
	}
	if stated == 0 {
		t.Error("no flag states its form")
	}
}
