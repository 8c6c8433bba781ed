package routing

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The fields of struct bpf_sock_addr that a program of the hooks cgroup/connect4
// and connect6 may read and write: include/uapi/linux/bpf.h of the kernel.
const (
	addrIP4      = 4
	addrIP6      = 8
	addrPort     = 24 // network byte order, in the lower half
	addrProtocol = 36
)

// Words of addresses and ports as a little-endian machine reads them.
const (
	port80         = 0x5000
	metadataWord   = int32(-0x01560157) // 169.254.169.254: 0xfea9fea9
	mappedWord     = -0x10000           // the third of ::ffff:169.254.169.254
	metadataV6Head = int32(-0x31ffdf03) // the first of fd20:ce::254: fd 20 00 ce
	metadataV6Tail = 0x54020000         // the last: 00 00 02 54
)

// The keys of the map of targets: by the family of the socket.
const (
	forIPv4 = uint32(4)
	forIPv6 = uint32(6)
)

// target is where connections go instead, as the programs look it up.
type target struct {
	Address [16]byte
	Port    [2]byte // network byte order
	_       [2]byte
}

// redirect4 is a program of the hook cgroup/connect4: a connection to
// 169.254.169.254:80 goes to the target. Where there is none it is refused: what
// stands behind the node may be another metadata server.
func redirect4(targets *ebpf.Map) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, addrProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "pass"),
		asm.LoadMem(asm.R1, asm.R6, addrPort, asm.Word),
		asm.JNE.Imm(asm.R1, port80, "pass"),
		asm.LoadMem(asm.R1, asm.R6, addrIP4, asm.Word),
		asm.JNE.Imm32(asm.R1, metadataWord, "pass"),
	}
	p = append(p, lookup(targets, forIPv4)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R0, 12, asm.Word),
		asm.StoreMem(asm.R6, addrIP4, asm.R1, asm.Word),
	)
	return append(p, verdict()...)
}

// redirect6 is a program of the hook cgroup/connect6. A socket of both families
// reaches IPv4 by ::ffff:a.b.c.d, and comes by this hook.
func redirect6(targets *ebpf.Map) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, addrProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "pass"),
		asm.LoadMem(asm.R1, asm.R6, addrPort, asm.Word),
		asm.JNE.Imm(asm.R1, port80, "pass"),

		asm.LoadMem(asm.R1, asm.R6, addrIP6, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, addrIP6+4, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, addrIP6+8, asm.Word),
		asm.LoadMem(asm.R4, asm.R6, addrIP6+12, asm.Word),
		asm.JNE.Imm(asm.R2, 0, "pass"),
		asm.JEq.Imm32(asm.R1, metadataV6Head, "v6"),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.JNE.Imm32(asm.R3, mappedWord, "pass"),
		asm.JNE.Imm32(asm.R4, metadataWord, "pass"),
		asm.Ja.Label("ours"),
		asm.JNE.Imm(asm.R3, 0, "pass").WithSymbol("v6"),
		asm.JNE.Imm32(asm.R4, metadataV6Tail, "pass"),
	}
	found := lookup(targets, forIPv6)
	found[0] = found[0].WithSymbol("ours")
	p = append(p, found...)
	for word := range int16(4) {
		p = append(p,
			asm.LoadMem(asm.R1, asm.R0, 4*word, asm.Word),
			asm.StoreMem(asm.R6, addrIP6+4*word, asm.R1, asm.Word),
		)
	}
	return append(p, verdict()...)
}

func lookup(targets *ebpf.Map, family uint32) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -4, int64(family), asm.Word),
		asm.LoadMapPtr(asm.R1, targets.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "refuse"),
	}
}

// verdict ends a program: R0 is the target that was found.
func verdict() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R0, 16, asm.Half),
		asm.StoreMem(asm.R6, addrPort, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("refuse"), // connect(2) fails with EPERM
		asm.Return(),
	}
}
