package attest

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// maxRecords bounds the connections that are established and not accepted yet:
// several backlogs of a listener (net.core.somaxconn is 4096).
const maxRecords = 16384

// Recorder lets the kernel note which cgroup opens each connection to some
// destinations. A connection has its record from before it can be accepted until
// it is taken, or the server has closed it. There is no replacement of old
// records by new ones: what does not fit has none, and is counted.
type Recorder struct {
	destinations, storage, records, lost *ebpf.Map
	links                                []link.Link
	atOnce                               bool // records can be read and removed in one step
}

// record is what the kernel notes of a connection.
type record struct {
	Cgroup, Socket uint64
}

// destination is where connections are noted, as the programs look it up.
type destination struct {
	Address [16]byte
	Port    [2]byte // network byte order
	_       [2]byte
}

// NewRecorder notes connections of the processes in a cgroup and those below it,
// until it is closed. It needs Linux 5.11 and the capabilities BPF and NET_ADMIN.
// Other programs at the same hooks run as before.
func NewRecorder(cgroup string) (*Recorder, error) { return newRecorder(cgroup, maxRecords) }

func newRecorder(cgroup string, size uint32) (*Recorder, error) {
	r := &Recorder{}
	if err := r.open(cgroup, size); err != nil {
		_ = r.Close()
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("recorder: the process needs the capabilities BPF and NET_ADMIN: %w", err)
		}
		return nil, fmt.Errorf("recorder: %w", err)
	}
	return r, nil
}

func (r *Recorder) open(cgroup string, size uint32) error {
	number := func(bytes uint32) btf.Type { return &btf.Int{Name: "number", Size: bytes} } // the kernel insists on types for socket storage
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&r.destinations, ebpf.MapSpec{Name: "gkemd_dest", Type: ebpf.Hash, KeySize: 20, ValueSize: 1, MaxEntries: 16}},
		{&r.storage, ebpf.MapSpec{Name: "gkemd_cgroup", Type: ebpf.SkStorage, KeySize: 4, ValueSize: 8, Key: number(4), Value: number(8), Flags: unix.BPF_F_NO_PREALLOC}},
		{&r.records, ebpf.MapSpec{Name: "gkemd_records", Type: ebpf.Hash, KeySize: 36, ValueSize: 16, MaxEntries: size}},
		{&r.lost, ebpf.MapSpec{Name: "gkemd_lost", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
	} {
		opened, err := ebpf.NewMap(&m.spec)
		if err != nil {
			return fmt.Errorf("map %s: %w", m.spec.Name, err)
		}
		*m.to = opened
	}
	// From Linux 5.14; an older one says that it does not know how.
	r.atOnce = errors.Is(r.records.LookupAndDelete(&key{}, &record{}), ebpf.ErrKeyNotExist)
	// The socket's program first: what connect notes is used by nobody without it.
	for _, p := range []ebpf.ProgramSpec{
		{Name: "gkemd_socket", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps, Instructions: onSocket(r.storage, r.records, r.lost)},
		{Name: "gkemd_connect4", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, Instructions: onConnect(false, r.destinations, r.storage)},
		{Name: "gkemd_connect6", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet6Connect, Instructions: onConnect(true, r.destinations, r.storage)},
	} {
		if err := r.attach(cgroup, p); err != nil {
			return fmt.Errorf("program %s: %w", p.Name, err)
		}
	}
	return nil
}

func (r *Recorder) attach(cgroup string, p ebpf.ProgramSpec) error {
	p.License = "Apache-2.0"
	program, err := ebpf.NewProgram(&p)
	if err != nil {
		return err
	}
	defer func() { _ = program.Close() }() // the link keeps it
	attached, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: p.AttachType, Program: program})
	if err != nil {
		return err
	}
	r.links = append(r.links, attached)
	return nil
}

// Add lets connections to an address and port be noted; with an unspecified
// address, to the port at any.
func (r *Recorder) Add(to netip.AddrPort) error {
	d := destination{Port: [2]byte{byte(to.Port() >> 8), byte(to.Port())}}
	if !to.Addr().IsUnspecified() {
		d.Address = to.Addr().As16()
	}
	if err := r.destinations.Put(&d, uint8(1)); err != nil {
		return fmt.Errorf("recorder: destination %s: %w", to, err)
	}
	return nil
}

// Take returns the number of the cgroup that opened a connection, once: whoever
// uses the same addresses and ports after it has a record of his own or none.
func (r *Recorder) Take(t Tuple) (cgroup uint64, found bool, err error) {
	k := t.key()
	var of record
	err = r.take(&k, &of)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("recorder: %w", err)
	}
	return of.Cgroup, true, nil
}

func (r *Recorder) take(k *key, of *record) error {
	if r.atOnce {
		return r.records.LookupAndDelete(k, of)
	}
	if err := r.records.Lookup(k, of); err != nil {
		return err
	}
	if err := r.records.Delete(k); !errors.Is(err, ebpf.ErrKeyNotExist) { // the client closed meanwhile
		return err
	}
	return nil
}

// Lost is how many connections had no record because there were too many.
func (r *Recorder) Lost() uint64 {
	var n uint64
	_ = r.lost.Lookup(uint32(0), &n) // zero where it cannot be read
	return n
}

// Close detaches from the kernel.
func (r *Recorder) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	for _, m := range []*ebpf.Map{r.destinations, r.storage, r.records, r.lost} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
