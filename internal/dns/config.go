package dns

import (
	"maps"
	"slices"
	"strings"
)

const (
	// Corefile is the key of the Corefile in the ConfigMap of CoreDNS.
	Corefile = "Corefile"
	// ServerKey is our key in the custom ConfigMap.
	ServerKey = "gke-metadata-emulator.server"
)

// Config is what a cluster's CoreDNS is told.
type Config struct {
	Corefile string
	Custom   map[string]string // the data of the custom ConfigMap, nil where there is none
}

// Install returns the configuration with our names. Installed already, it is what it
// was; of an older version, it is brought up to date. Errors are of type [*Error].
func Install(c Config) (Config, error) {
	at, f, err := c.read()
	if err != nil {
		return Config{}, err
	}
	ports, err := f.rootPorts(Corefile)
	if err != nil {
		return Config{}, err
	}
	if err := f.free(Corefile); err != nil {
		return Config{}, err
	}
	custom, err := f.hasCustom(Corefile)
	if err != nil {
		return Config{}, err
	}
	if !custom {
		if _, there := c.Custom[ServerKey]; there {
			return Config{}, refuse(NotUnderstood, ServerKey, 0, "is in the custom ConfigMap, which the Corefile does not import (any more); uninstall first")
		}
		return Config{at.with(serverBlock(ports)), c.Custom}, nil
	}
	if err := c.customFree(); err != nil {
		return Config{}, err
	}
	data := maps.Clone(c.Custom)
	if data == nil {
		data = map[string]string{}
	}
	data[ServerKey] = marked{begin: -1}.with(serverBlock(ports))
	return Config{at.without(), data}, nil
}

// Uninstall returns the configuration as it was before Install. It does not have to
// understand what else is there. Errors are of type [*Error].
func Uninstall(c Config) (Config, error) {
	at, err := find(Corefile, c.Corefile)
	if err != nil {
		return Config{}, err
	}
	if err := c.ownKey(); err != nil {
		return Config{}, err
	}
	data := maps.Clone(c.Custom)
	delete(data, ServerKey)
	return Config{at.without(), data}, nil
}

// State is whether our names are there.
type State int

// The states.
const (
	Absent State = iota
	Outdated
	Present
)

// StateOf says whether our names are there. Errors are of type [*Error].
func StateOf(c Config) (State, error) {
	without, err := Uninstall(c)
	if err != nil {
		return Absent, err
	}
	if c.equal(without) {
		return Absent, nil
	}
	wanted, err := Install(c)
	if err != nil {
		return Absent, err
	}
	if c.equal(wanted) {
		return Present, nil
	}
	return Outdated, nil
}

// Reloads says whether CoreDNS notices a change by itself.
func Reloads(c Config) bool {
	f, err := parse(Corefile, c.Corefile)
	return err == nil && f.reloads
}

func (c Config) equal(other Config) bool {
	return c.Corefile == other.Corefile && maps.Equal(c.Custom, other.Custom)
}

// read finds our block in the Corefile and parses the rest.
func (c Config) read() (marked, *corefile, error) {
	at, err := find(Corefile, c.Corefile)
	if err != nil {
		return marked{}, nil, err
	}
	if at.begin < 0 {
		f, err := parse(Corefile, c.Corefile)
		return at, f, err
	}
	// Line by line as it is, so that errors name the right line.
	blank := strings.Repeat("\n", strings.Count(at.text[at.begin:at.end], "\n"))
	f, err := parse(Corefile, at.text[:at.begin]+blank+at.text[at.end:])
	if err != nil {
		return marked{}, nil, err
	}
	// The marks have to stand between blocks, not within one.
	if _, err := parse(Corefile, at.text[:at.begin]); err != nil {
		return marked{}, nil, refuse(Damaged, Corefile, 0, "our block is not where it was put; remove all from %q to %q by hand", beginMark, endMark)
	}
	return at, f, nil
}

// ownKey says whether our key in the custom ConfigMap, if it is there, is ours.
func (c Config) ownKey() error {
	if text, there := c.Custom[ServerKey]; there && !strings.HasPrefix(text, beginMark+"\n") {
		return refuse(Taken, ServerKey, 0, "has not been made by install; remove the key by hand")
	}
	return nil
}

// customFree says whether nobody else's server blocks answer for our names.
func (c Config) customFree() error {
	if err := c.ownKey(); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(c.Custom)) {
		if key == ServerKey || !strings.HasSuffix(key, ".server") {
			continue
		}
		f, err := parse(key, c.Custom[key])
		if err != nil {
			return err
		}
		if err := f.free(key); err != nil {
			return err
		}
	}
	return nil
}
