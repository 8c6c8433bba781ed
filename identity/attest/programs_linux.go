package attest

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The fields of the contexts that the kernel hands to programs, and its constants:
// struct bpf_sock_addr, struct bpf_sock_ops and their enums in the kernel's
// include/uapi/linux/bpf.h. Both byte orders of a port are found there.
const (
	addrIP4      = 4
	addrIP6      = 8
	addrDstPort  = 24 // network byte order, in the lower half
	addrProtocol = 36
	addrSocket   = 64

	opsOp         = 0
	opsNewState   = 8
	opsFamily     = 20
	opsServerIP4  = 24
	opsClientIP4  = 28
	opsServerIP6  = 32
	opsClientIP6  = 48
	opsServerPort = 64 // network byte order, in the upper half
	opsClientPort = 68 // the machine's
	opsCallbacks  = 84
	opsSocket     = 184

	opEstablished = 4  // BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
	opState       = 10 // BPF_SOCK_OPS_STATE_CB
	wantStates    = 4  // BPF_SOCK_OPS_STATE_CB_FLAG

	stateEstablished = 1 // BPF_TCP_ESTABLISHED
	stateFinWait1    = 4 // BPF_TCP_FIN_WAIT1
	stateFinWait2    = 5 // BPF_TCP_FIN_WAIT2

	createStorage = 1 // BPF_SK_STORAGE_GET_F_CREATE

	// mapped is the third word of ::ffff:a.b.c.d on a little-endian machine, as
	// all that this runs on are.
	mapped = -0x10000 // 0xffff0000
)

// onConnect is a program of the hook cgroup/connect4 or connect6. It runs in the
// process that connects, and leaves the number of its cgroup with the socket. A
// socket of both families that connects to ::ffff:169.254.169.254, as Java's do,
// comes by connect6.
func onConnect(v6 bool, destinations, storage *ebpf.Map) asm.Instructions {
	const destination = -24 // on the stack: address, port
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, addrProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "out"),
		asm.LoadMem(asm.R1, asm.R6, addrDstPort, asm.Word),
		asm.StoreMem(asm.RFP, destination+16, asm.R1, asm.Word),
	}
	if v6 {
		p = append(p, copyWords(destination, addrIP6, 4)...)
	} else {
		p = append(p, mappedPrefix(destination)...)
		p = append(p, copyWords(destination+12, addrIP4, 1)...)
	}
	lookup := asm.Instructions{
		asm.LoadMapPtr(asm.R1, destinations.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, destination),
		asm.FnMapLookupElem.Call(),
	}
	p = append(p, lookup...)
	p = append(p,
		asm.JNE.Imm(asm.R0, 0, "ours"),
		// A port of any address.
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, destination, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, destination+8, asm.R1, asm.DWord),
	)
	p = append(p, lookup...)
	return append(p,
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.FnGetCurrentCgroupId.Call().WithSymbol("ours"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.LoadMapPtr(asm.R1, storage.FD()),
		asm.LoadMem(asm.R2, asm.R6, addrSocket, asm.DWord),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, createStorage),
		asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"), // no memory: no record, as below
		asm.StoreMem(asm.R0, 0, asm.R7, asm.DWord),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"), // nothing is refused here
		asm.Return(),
	)
}

// onSocket is a program of the hook sockops. It sees the socket's port, which
// connect may not have chosen yet. The record is written when the connection is
// established on the client's side, which is before the server can accept it, and
// by the kernel's own TCP alone: whoever makes up packets has no record. It is
// removed when the server has closed, so that nobody can take the port up again.
func onSocket(storage, records, lost *ebpf.Map) asm.Instructions {
	const (
		tuple = -40
		value = -56 // the cgroup's number, the socket's cookie
	)
	atStack := func(register asm.Register, offset int32) asm.Instructions {
		return asm.Instructions{asm.Mov.Reg(register, asm.RFP), asm.Add.Imm(register, offset)}
	}
	var p asm.Instructions
	add := func(more ...asm.Instruction) { p = append(p, more...) }
	add(
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R8, asm.R6, opsOp, asm.Word),
		asm.JEq.Imm(asm.R8, opEstablished, "ours?"),
		asm.JNE.Imm(asm.R8, opState, "out"),
		asm.LoadMem(asm.R1, asm.R6, opsNewState, asm.Word),
		asm.JEq.Imm(asm.R1, stateEstablished, "out"),
		asm.JEq.Imm(asm.R1, stateFinWait1, "out"), // the client has said all, and listens
		asm.JEq.Imm(asm.R1, stateFinWait2, "out"),

		asm.LoadMem(asm.R2, asm.R6, opsSocket, asm.DWord).WithSymbol("ours?"),
		asm.JEq.Imm(asm.R2, 0, "out"),
		asm.LoadMapPtr(asm.R1, storage.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord),

		asm.LoadMem(asm.R1, asm.R6, opsFamily, asm.Word),
		asm.JEq.Imm(asm.R1, unix.AF_INET6, "v6"),
	)
	add(mappedPrefix(tuple)...)
	add(copyWords(tuple+12, opsClientIP4, 1)...)
	add(mappedPrefix(tuple + 16)...)
	add(copyWords(tuple+28, opsServerIP4, 1)...)
	add(asm.Ja.Label("ports"))
	v6 := append(copyWords(tuple, opsClientIP6, 4), copyWords(tuple+16, opsServerIP6, 4)...)
	v6[0] = v6[0].WithSymbol("v6")
	add(v6...)
	add(
		asm.LoadMem(asm.R1, asm.R6, opsClientPort, asm.Word).WithSymbol("ports"),
		asm.StoreMem(asm.RFP, tuple+32, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R6, opsServerPort, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, tuple+34, asm.R1, asm.Half),

		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetSocketCookie.Call(),
		asm.Mov.Reg(asm.R9, asm.R0),
		asm.LoadMapPtr(asm.R1, records.FD()),
	)
	add(atStack(asm.R2, tuple)...)
	add(
		asm.JNE.Imm(asm.R8, opEstablished, "closed"),

		asm.StoreMem(asm.RFP, value, asm.R7, asm.DWord),
		asm.StoreMem(asm.RFP, value+8, asm.R9, asm.DWord),
	)
	add(atStack(asm.R3, value)...)
	add(
		asm.Mov.Imm(asm.R4, 0), // BPF_ANY: the port's last owner forgot it
		asm.FnMapUpdateElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "full"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMem(asm.R2, asm.R6, opsCallbacks, asm.Word),
		asm.Or.Imm(asm.R2, wantStates),
		asm.FnSockOpsCbFlagsSet.Call(),
		asm.Ja.Label("out"),

		asm.FnMapLookupElem.Call().WithSymbol("closed"),
		asm.JEq.Imm(asm.R0, 0, "out"), // the server has read it
		asm.LoadMem(asm.R1, asm.R0, 8, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R9, "out"), // of another socket with these addresses
		asm.LoadMapPtr(asm.R1, records.FD()),
	)
	add(atStack(asm.R2, tuple)...)
	add(
		asm.FnMapDeleteElem.Call(),
		asm.Ja.Label("out"),

		asm.StoreImm(asm.RFP, value, 0, asm.Word).WithSymbol("full"),
		asm.LoadMapPtr(asm.R1, lost.FD()),
	)
	add(atStack(asm.R2, value)...)
	add(
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),

		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	)
	return p
}

// copyWords copies from the context to the stack: the kernel lets most fields be
// read by words only.
func copyWords(stack, context int16, n int16) asm.Instructions {
	var p asm.Instructions
	for i := range n {
		p = append(p, asm.LoadMem(asm.R1, asm.R6, context+4*i, asm.Word), asm.StoreMem(asm.RFP, stack+4*i, asm.R1, asm.Word))
	}
	return p
}

// mappedPrefix writes the first twelve bytes of ::ffff:a.b.c.d to the stack.
func mappedPrefix(stack int16) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, stack, 0, asm.Word),
		asm.StoreImm(asm.RFP, stack+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, stack+8, mapped, asm.Word),
	}
}
