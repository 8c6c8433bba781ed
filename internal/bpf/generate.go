package bpf

// The version of clang decides the bytes of an object, so it is pinned: clang-14 is the
// one of Debian 12. -nostdinc keeps headers of the machine out. bpf2go's default is
// -mcpu=v1, the instructions that every kernel knows.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -tags linux Recorder recorder.c -- -nostdinc -Wall -Wextra -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -tags linux Redirect redirect.c -- -nostdinc -Wall -Wextra -Werror
//go:generate sh -c "sha256sum generate.go *.c *.h *_bpfel.go *_bpfel.o >SHA256SUMS"
