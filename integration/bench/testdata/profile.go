package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// SIGUSR1 starts a CPU profile in the file that BENCH_PROFILE names, SIGUSR2 ends it and
// writes the empty file BENCH_PROFILE.done. The program of a release has no such signal.
var _ = func() bool {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			if s == syscall.SIGUSR2 {
				pprof.StopCPUProfile()
				_ = os.WriteFile(os.Getenv("BENCH_PROFILE")+".done", nil, 0o600)
				continue
			}
			file, err := os.Create(os.Getenv("BENCH_PROFILE"))
			if err == nil {
				err = pprof.StartCPUProfile(file)
			}
			if err != nil {
				panic(err)
			}
		}
	}()
	return true
}()
