package config

import (
	"testing"
	"time"
)

func TestDMI_FilesMustBeTwoAbsolutePaths(t *testing.T) {
	for _, test := range []struct{ file, original, flag, fragment string }{
		{"product_name", "", "dmi-product-name", "/kind/product_name"},
		{kindProductName, "product_name", "dmi-original", `"product_name" is not an absolute path`},
		{kindProductName, kindProductName, "dmi-original", "give the path of another file"},
	} {
		s := federation(t)
		s.DMI = DMI{ProductName: test.file, Original: test.original}
		checkFlagError(t, s.Complete(), test.flag, test.fragment)
		checkFlagError(t, (&Cleanup{Interface: "lo", DMI: DMI{ProductName: test.file, Original: test.original}}).Complete(), test.flag, test.fragment)
	}
	s := federation(t)
	s.DMI = DMI{ProductName: kindProductName}
	if err := s.Complete(); err != nil || s.DMI.Original != originalProductName {
		t.Errorf("%v, the original content is saved in %q", err, s.DMI.Original)
	}
}

func TestFakeGoogle_RefusesInvalidSettings(t *testing.T) {
	for _, test := range []struct {
		change   func(*FakeGoogle)
		flag     string
		fragment string // of the error
	}{
		{func(f *FakeGoogle) { f.Listen = "here" }, "listen", "is not IP:PORT"},
		{func(f *FakeGoogle) { f.TokenLife = 0 }, "token-life", "use 1h or less"},
		{func(f *FakeGoogle) { f.TokenLife = 2 * time.Hour }, "token-life", "2h0m0s is not between"},
		{func(f *FakeGoogle) { f.Logging.Format = "" }, "log-format", "use one of"},
	} {
		f := &FakeGoogle{}
		parse(t, f)
		test.change(f)
		checkFlagError(t, f.Complete(), test.flag, test.fragment)
	}
}

func TestCleanup_RefusesInvalidSettings(t *testing.T) {
	checkFlagError(t, (&Cleanup{}).Complete(), "interface", "use lo")
	checkFlagError(t, (&Cleanup{Interface: "lo", HandoverFile: "tokens"}).Complete(), "handover-file", `"tokens" is not an absolute path`)
}

func TestProbe_RefusesInvalidSettings(t *testing.T) {
	valid := Probe{Target: "http://169.254.169.254", AdminListen: "127.0.0.1:8989", Timeout: time.Second}
	for flag, change := range map[string]func(*Probe){
		"":             func(*Probe) {},
		"target":       func(p *Probe) { p.Target = "169.254.169.254" },
		"admin-listen": func(p *Probe) { p.AdminListen = "8989" },
		"timeout":      func(p *Probe) { p.Timeout = 0 },
	} {
		p := valid
		change(&p)
		err := p.Complete()
		if flag == "" {
			if err != nil {
				t.Errorf("valid settings: %v", err)
			}
			continue
		}
		checkFlagError(t, err, flag, "")
	}
}
