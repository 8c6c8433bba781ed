package attest

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/bpf"
)

// Tuple is a TCP connection as its client's socket sees it. The server sees another tuple
// if an address was translated.
type Tuple struct {
	Client, Server netip.AddrPort
}

// Recorder makes the kernel record which cgroup opens each connection to some
// destinations. The record exists before the connection can be accepted, and until it is
// taken or the connection has closed. Records never evict each other: a
// connection for which there is no space has no record, and is counted.
type Recorder struct {
	maps   bpf.RecorderMaps
	links  []link.Link
	atOnce bool // whether the kernel can read and remove a record in one step
}

// NewRecorder records connections of the processes in a cgroup and below it until it is
// closed. It needs Linux 5.11 and the capabilities BPF and NET_ADMIN. Other programs at
// the same hooks run as before.
func NewRecorder(cgroup string) (*Recorder, error) { return newRecorder(cgroup, 0) }

// newRecorder is NewRecorder with a maximum number of records (0: the default).
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
	spec, err := bpf.LoadRecorder()
	if err != nil {
		return err
	}
	if size != 0 {
		spec.Maps[bpf.RecorderMapGkemdRecords].MaxEntries = size
	}
	var objects bpf.RecorderObjects
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return err
	}
	defer func() { _ = objects.RecorderPrograms.Close() }() // the links hold them
	r.maps = objects.RecorderMaps
	// From Linux 5.14; an older kernel does not support the operation.
	r.atOnce = errors.Is(r.maps.GkemdRecords.LookupAndDelete(&bpf.RecorderConnection{}, &bpf.RecorderRecord{}), ebpf.ErrKeyNotExist)
	// The sockops program is attached first: without it, nothing reads the others' results.
	for _, hook := range []struct {
		at      ebpf.AttachType
		program *ebpf.Program
	}{
		{ebpf.AttachCGroupSockOps, objects.GkemdSocket},
		{ebpf.AttachCGroupInet4Connect, objects.GkemdConnect4},
		{ebpf.AttachCGroupInet6Connect, objects.GkemdConnect6},
	} {
		attached, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: hook.at, Program: hook.program})
		if err != nil {
			return fmt.Errorf("attach %s: %w", hook.program, err)
		}
		r.links = append(r.links, attached)
	}
	return nil
}

// Add lets connections to an address and port be recorded. An unspecified address
// means all addresses.
func (r *Recorder) Add(destination netip.AddrPort) error {
	port := destination.Port()
	key := bpf.RecorderDestination{Port: [2]byte{byte(port >> 8), byte(port)}}
	if !destination.Addr().IsUnspecified() {
		key.Address = destination.Addr().As16()
	}
	if err := r.maps.GkemdDest.Put(&key, uint8(1)); err != nil {
		return fmt.Errorf("recorder: destination %s: %w", destination, err)
	}
	return nil
}

// Take returns the ID of the cgroup that opened a connection, and removes the
// record. A later connection from the same address and port has a record of its own or
// none.
func (r *Recorder) Take(t Tuple) (cgroup uint64, found bool, err error) {
	key := bpf.RecorderConnection{
		Client: t.Client.Addr().As16(), ClientPort: t.Client.Port(),
		Server: t.Server.Addr().As16(), ServerPort: t.Server.Port(),
	}
	var record bpf.RecorderRecord
	err = r.take(&key, &record)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("recorder: %w", err)
	}
	return record.Cgroup, true, nil
}

func (r *Recorder) take(key *bpf.RecorderConnection, record *bpf.RecorderRecord) error {
	if r.atOnce {
		return r.maps.GkemdRecords.LookupAndDelete(key, record)
	}
	if err := r.maps.GkemdRecords.Lookup(key, record); err != nil {
		return err
	}
	if err := r.maps.GkemdRecords.Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) { // the client has closed meanwhile
		return err
	}
	return nil
}

// Lost returns the number of connections without a record because there were too many;
// zero if the kernel cannot be read.
func (r *Recorder) Lost() uint64 {
	var n uint64
	_ = r.maps.GkemdLost.Lookup(uint32(0), &n)
	return n
}

// Close detaches the programs from the kernel and frees the records.
func (r *Recorder) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, r.maps.Close())...)
}
