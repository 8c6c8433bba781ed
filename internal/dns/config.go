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

// Config is the configuration of a cluster's CoreDNS.
type Config struct {
	Corefile string
	Custom   map[string]string // the data of the custom ConfigMap; nil if there is none
}

// Install returns the configuration with our names. If they are installed already,
// the configuration is unchanged; a block of an older version is updated. Errors are
// of type [*Error].
func Install(c Config) (Config, error) {
	main, f, err := c.read()
	if err != nil {
		return Config{}, err
	}
	ports, err := f.rootPorts(Corefile)
	if err != nil {
		return Config{}, err
	}
	if err := f.checkNamesFree(Corefile); err != nil {
		return Config{}, err
	}
	custom, err := f.importsCustom(Corefile)
	if err != nil {
		return Config{}, err
	}
	if !custom {
		if _, ok := c.Custom[ServerKey]; ok {
			return Config{}, refuse(NotUnderstood, ServerKey, 0, "is in the custom ConfigMap, which the Corefile does not import; uninstall first")
		}
		return Config{main.with(serverBlock(ports)), c.Custom}, nil
	}
	if err := c.checkCustomFree(); err != nil {
		return Config{}, err
	}
	data := maps.Clone(c.Custom)
	if data == nil {
		data = map[string]string{}
	}
	data[ServerKey] = marked{begin: -1}.with(serverBlock(ports))
	return Config{main.without(), data}, nil
}

// Uninstall returns the configuration as it was before Install. It does not parse the
// rest of the Corefile. Errors are of type [*Error].
func Uninstall(c Config) (Config, error) {
	main, err := find(Corefile, c.Corefile)
	if err != nil {
		return Config{}, err
	}
	if err := c.checkServerKey(); err != nil {
		return Config{}, err
	}
	data := maps.Clone(c.Custom)
	delete(data, ServerKey)
	return Config{main.without(), data}, nil
}

// State is the state of our names in a configuration.
type State int

// The states.
const (
	Absent   State = iota // not installed
	Outdated              // installed by another version, or in another place
	Present               // installed as [Install] would
)

// StateOf returns the state of our names in a configuration. Errors are of type
// [*Error].
func StateOf(c Config) (State, error) {
	without, err := Uninstall(c)
	if err != nil {
		return Absent, err
	}
	if c.equal(without) {
		return Absent, nil
	}
	installed, err := Install(c)
	if err != nil {
		return Absent, err
	}
	if c.equal(installed) {
		return Present, nil
	}
	return Outdated, nil
}

// Reloads reports whether CoreDNS notices a change of the Corefile without a restart.
func Reloads(c Config) bool {
	f, err := parse(Corefile, c.Corefile)
	return err == nil && f.reloads
}

func (c Config) equal(other Config) bool {
	return c.Corefile == other.Corefile && maps.Equal(c.Custom, other.Custom)
}

// read finds our block in the Corefile and parses the rest.
func (c Config) read() (marked, *corefile, error) {
	main, err := find(Corefile, c.Corefile)
	if err != nil {
		return marked{}, nil, err
	}
	if main.begin < 0 {
		f, err := parse(Corefile, c.Corefile)
		return main, f, err
	}
	// Blank lines replace our block, so that errors name the right line.
	blank := strings.Repeat("\n", strings.Count(main.text[main.begin:main.end], "\n"))
	f, err := parse(Corefile, main.text[:main.begin]+blank+main.text[main.end:])
	if err != nil {
		return marked{}, nil, err
	}
	// The marks must be between blocks, not within one.
	if _, err := parse(Corefile, main.text[:main.begin]); err != nil {
		return marked{}, nil, refuse(Damaged, Corefile, 0, "our block has been moved; remove everything from %q to %q by hand", beginMark, endMark)
	}
	return main, f, nil
}

// checkServerKey returns an error if our key in the custom ConfigMap is not ours.
func (c Config) checkServerKey() error {
	if text, ok := c.Custom[ServerKey]; ok && !strings.HasPrefix(text, beginMark+"\n") {
		return refuse(Taken, ServerKey, 0, "was not created by install; remove the key by hand")
	}
	return nil
}

// checkCustomFree returns an error if one of the user's server blocks answers for our
// names.
func (c Config) checkCustomFree() error {
	if err := c.checkServerKey(); err != nil {
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
		if err := f.checkNamesFree(key); err != nil {
			return err
		}
	}
	return nil
}
