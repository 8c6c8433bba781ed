package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"
)

const object = "hello.txt"

// show is the demo, from top to bottom.
func show(ctx context.Context, s settings, out io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "gke-metadata-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	a, err := chooseAddresses(ctx, out)
	if err != nil {
		return err
	}
	defer a.close()
	quiet := new(slog.LevelVar) // until the proof is shown
	quiet.Set(slog.LevelError)
	storage, err := newStorage(folder, a, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: quiet})))
	if err != nil {
		return err
	}
	defer storage.Close()

	running, stop := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	defer func() {
		stop()
		if ended := g.Wait(); ended != nil {
			err = ended // the cause of all else
		}
	}()
	storage.serve(running, g, a)
	emulator, err := startEmulator(running, s.binary, folder, a)
	if err != nil {
		return err
	}
	defer func() {
		stop()
		_ = emulator.wait() // it was told to end
	}()

	proof, err := proveWith(running, emulator, folder, a, storage)
	if ctx.Err() != nil {
		return errors.New("interrupted before the proof")
	}
	if err != nil {
		return emulator.failed(err)
	}
	proof.print(out)
	if s.oneshot {
		return nil
	}
	if err := printPastes(out, a, storage); err != nil {
		return err
	}
	quiet.Set(slog.LevelInfo)
	select {
	case <-running.Done(): // interrupted, or the group says what failed
		return nil
	case <-emulator.done:
		return emulator.failed(emulator.ended())
	}
}

func proveWith(ctx context.Context, e *emulator, folder string, a addresses, s *cloudStorage) (*proof, error) {
	if err := e.ready(ctx, a.admin); err != nil {
		return nil, err
	}
	return prove(ctx, folder, a, s)
}
