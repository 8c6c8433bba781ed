package bpf

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/wellknown"
)

func load(t *testing.T) []*ebpf.CollectionSpec {
	t.Helper()
	recorder, err := LoadRecorder()
	if err != nil {
		t.Fatal(err)
	}
	redirect, err := LoadRedirect()
	if err != nil {
		t.Fatal(err)
	}
	return []*ebpf.CollectionSpec{recorder, redirect}
}

// numbers returns the constants of C files by their names: a pattern has two groups, the
// name and the number.
func numbers(t *testing.T, file, pattern string) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(read(t, file)), -1) {
		n, err := strconv.ParseUint(match[2], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		all[match[1]] = n
	}
	if len(all) == 0 {
		t.Fatalf("%s has no constants that match %s", file, pattern)
	}
	return all
}

func TestAddresses_EqualWellKnown(t *testing.T) {
	defined := numbers(t, "redirect.c", `(?m)^#define METADATA_(\w+) (\w+)$`)
	ipv4, ipv6 := netip.MustParseAddr(wellknown.MetadataIPv4).As4(), netip.MustParseAddr(wellknown.MetadataIPv6).As16()
	want := map[string]uint64{"IPV4": uint64(binary.BigEndian.Uint32(ipv4[:])), "PORT": wellknown.MetadataPort}
	for i := range 4 {
		want["IPV6_WORD"+strconv.Itoa(i)] = uint64(binary.BigEndian.Uint32(ipv6[4*i:]))
	}
	for name, number := range want {
		if got, found := defined[name]; !found || got != number {
			t.Errorf("METADATA_%s is %#x, and by package wellknown %#x", name, got, number)
		}
	}
	if len(defined) != len(want) {
		t.Errorf("redirect.c defines %v, want %d constants", defined, len(want))
	}
}

// The verifier refuses a load by a pointer to a context with an offset, and the helpers
// of other tests need root to find out. Before Linux 5.9 a load over the register of the
// context can corrupt it, which no newer kernel reports. See LOAD in kernel.h.
func TestPrograms_KeepContextPointer(t *testing.T) {
	for _, spec := range load(t) {
		for name, program := range spec.Programs {
			context := map[asm.Register]bool{asm.R1: true}
			for i, instruction := range program.Instructions {
				op := instruction.OpCode
				switch {
				case op.JumpOp() == asm.Call:
					for r := asm.R0; r <= asm.R5; r++ {
						delete(context, r)
					}
				case op.Class().IsALU() && op.ALUOp() == asm.Mov && op.Source() == asm.RegSource && context[instruction.Src]:
					context[instruction.Dst] = true
				case op.Class().IsALU() && op.ALUOp() != asm.Mov && context[instruction.Dst]:
					t.Errorf("%s, instruction %d: %v moves the pointer to the context", name, i, instruction)
				case op.Class() == asm.LdXClass && instruction.Src == instruction.Dst && context[instruction.Src]:
					t.Errorf("%s, instruction %d: %v overwrites the pointer to the context", name, i, instruction)
				case op.Class().IsALU() || op.Class().IsLoad():
					delete(context, instruction.Dst)
				}
			}
		}
	}
}

func TestPrograms_NeedNoRelocationByKernelTypes(t *testing.T) {
	for _, spec := range load(t) {
		for name, program := range spec.Programs {
			for i := range program.Instructions {
				if relocation := btf.CORERelocationMetadata(&program.Instructions[i]); relocation != nil {
					t.Errorf("%s, instruction %d: %v needs the BTF of the kernel", name, i, relocation)
				}
			}
		}
	}
}

func TestKernelHeader_MatchesRunningKernel(t *testing.T) {
	kernel, err := btf.LoadKernelSpec()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("NOT CHECKED that kernel.h is the kernel's: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	enumerators := map[string]uint64{"AF_INET6": unix.AF_INET6} // a macro of the kernel
	for typ, err := range kernel.All() {
		if err != nil {
			t.Fatal(err)
		}
		if enum, ok := typ.(*btf.Enum); ok {
			for _, v := range enum.Values {
				enumerators[v.Name] = v.Value
			}
		}
	}
	same := func(name, kernelName string, number uint64) {
		t.Helper()
		if want, found := enumerators[kernelName]; !found || number != want {
			t.Errorf("%s is %d, and in the kernel %d (known: %t)", name, number, want, found)
		}
	}
	for name, number := range numbers(t, "kernel.h", `(?m)^(?:#define|\t)\s*([A-Z]\w+) (?:= )?(\d+),?$`) {
		same(name, name, number)
	}
	for name, number := range numbers(t, "kernel.h", `\(\*const bpf_(\w+)\)\(.*= \(void \*\)(\d+);`) {
		same("the number of bpf_"+name, "BPF_FUNC_"+name, number)
	}
	for i, structure := range []string{"bpf_sock_ops", "bpf_sock_addr"} {
		ours, theirs := offsets(t, load(t)[i].Types, structure), offsets(t, kernel, structure)
		for name, offset := range ours {
			if want, found := theirs[name]; !found || offset != want {
				t.Errorf("struct %s: %s is at %d, and in the kernel at %d (known: %t)", structure, name, offset, want, found)
			}
		}
	}
}

// offsets returns the offsets in bytes of the fields of a structure, and of the anonymous
// unions in it.
func offsets(t *testing.T, spec *btf.Spec, name string) map[string]uint32 {
	t.Helper()
	var structure *btf.Struct
	if err := spec.TypeByName(name, &structure); err != nil {
		t.Fatal(err)
	}
	all := map[string]uint32{}
	for _, member := range structure.Members {
		union, anonymous := member.Type.(*btf.Union)
		if !anonymous {
			all[member.Name] = member.Offset.Bytes()
			continue
		}
		for _, inner := range union.Members {
			if !strings.HasPrefix(inner.Name, "(") && inner.Name != "" {
				all[inner.Name] = (member.Offset + inner.Offset).Bytes()
			}
		}
	}
	return all
}
