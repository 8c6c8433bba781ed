package config

import "testing"

func TestStandalone_RefusesInvalidSettings(t *testing.T) {
	for _, test := range []struct {
		name     string
		change   func(*Standalone)
		flag     string
		fragment string // of the error
	}{
		{"federation", func(s *Standalone) { s.Credentials.Kind = Federation }, "credentials", "use one of fake, impersonation"},
		{"invalid address", func(s *Standalone) { s.Listen.Address = "8080" }, "listen", "is not IP:PORT"},
		{"one address for both", func(s *Standalone) { s.Listen.Admin = s.Listen.Address }, "admin-listen", "use another port"},
		{"impersonation without a project", func(s *Standalone) { s.Credentials.Kind = Impersonation }, "project-id", "is needed"},
		{"impersonation without a GSA", func(s *Standalone) {
			s.Credentials.Kind, s.Project.ID, s.Project.Number = Impersonation, "prod-project", "1"
		}, "gsa", "is needed with --credentials=impersonation"},
		{"GSA that is not an e-mail address", func(s *Standalone) { s.Identities.GSA = "dev" }, "gsa", "give one like NAME@PROJECT_ID.iam.gserviceaccount.com"},
		{"one identity and a list", func(s *Standalone) { s.Identities.GSA, s.Identities.File = "a@b.iam.gserviceaccount.com", "list.yaml" }, "gsa", "contradicts --identities"},
		{"missing list", func(s *Standalone) { s.Identities.File = "/nonexistent/list.yaml" }, "identities", "/nonexistent/list.yaml"},
		{"a log level", func(s *Standalone) { s.Logging.Level = "" }, "log-level", "use one of"},
		{"address without an IP", func(s *Standalone) { s.Listen.Address = "8080" }, "listen", "give one like 127.0.0.1:8080"},
		{"admin address without an IP", func(s *Standalone) { s.Listen.Admin = "8989" }, "admin-listen", "give one like 127.0.0.1:8989"},
		{"host with a port", func(s *Standalone) { s.AllowHost = "a.example,b.example:8080" }, "allow-host", "without ports"},
		{"host that is a pattern", func(s *Standalone) { s.AllowHost = "*" }, "allow-host", "is not a list of names"},
		{"endpoint with the fake", func(s *Standalone) { s.Google.STS = "foo" }, "sts-endpoint", "leave it out, or use --credentials=impersonation"},
		{"source credential with the fake", func(s *Standalone) { s.Credentials.Source = "key.json" }, "source-credentials", "is not used with --credentials=fake"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := standalone(t)
			test.change(s)
			err := s.Complete()
			if err == nil {
				_, err = s.Identities.Read()
			}
			checkFlagError(t, err, test.flag, test.fragment)
		})
	}
	for name, content := range map[string]string{
		"empty":                 "",
		"of another type":       "identities: 7",
		"not YAML":              "identities: [",
		"with a repeated field": "identities:\n- gsa: a@b.c\n  gsa: a@b.c\n- gsa: a@b.c\n  gsa: a@b.c\n",
		"with an unknown field": "identities: [{gsa: a@b.iam.gserviceaccount.com, pod: x}]",
	} {
		t.Run("a list that is "+name, func(t *testing.T) {
			s := standalone(t)
			s.Identities.File = writeFile(t, content)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			_, err := s.Identities.Read()
			checkFlagError(t, err, "identities", s.Identities.File)
		})
	}
}

// A user who follows a remedy literally must not run into the next error.
func TestStandalone_RemediesWork(t *testing.T) {
	s := standalone(t)
	s.Listen.Address = "127.0.0.1:8080" // the remedy of --listen=8080
	if err := s.Complete(); err != nil {
		t.Error(err)
	}
	s = standalone(t)
	s.Google.STS = "https://sts.example.com"
	s.Credentials.Kind, s.Identities.GSA = Impersonation, "a@b.iam.gserviceaccount.com" // the remedy of --sts-endpoint
	s.Project.ID, s.Project.Number = "prod-project", "1"
	if err := s.Complete(); err != nil {
		t.Error(err)
	}
}

func TestStandalone_HasOneIdentityWithoutList(t *testing.T) {
	for project, gsa := range map[string]string{
		"":                         "demo@demo-project.iam.gserviceaccount.com",
		"prod-project":             "demo@prod-project.iam.gserviceaccount.com",
		"example.com:prod-project": "demo@prod-project.example.com.iam.gserviceaccount.com",
	} {
		s := standalone(t)
		s.Project.ID, s.Identities.Namespace, s.Identities.KSA = project, "shop", "cart"
		if err := s.Complete(); err != nil {
			t.Fatal(err)
		}
		list, err := s.Identities.Read()
		if err != nil {
			t.Fatal(err)
		}
		all := list.Workloads()
		if len(all) != 1 || all[0].GSA != gsa || all[0].KSA.Namespace != "shop" || all[0].KSA.Name != "cart" {
			t.Errorf("project %q: identities %+v, want one of shop/cart with %s", project, all, gsa)
		}
	}
}

func TestStandalone_ReadsIdentities(t *testing.T) {
	s := standalone(t)
	s.Identities.File = writeFile(t, "identities:\n- {address: 172.17.0.2, serviceAccount: cart}\n- {address: 172.17.0.0/16, serviceAccount: till}\n")
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	list, err := s.Identities.Read()
	if err != nil {
		t.Fatal(err)
	}
	if all := list.Workloads(); len(all) != 2 || all[0].KSA.Name != "cart" || all[1].KSA.Name != "till" {
		t.Errorf("identities %+v", all)
	}
}
