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

// show runs the demo until it is interrupted, or once.
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
	logLevel := new(slog.LevelVar)
	logLevel.Set(slog.LevelError) // until the proof is shown
	storage, err := newStorage(folder, a, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: logLevel})))
	if err != nil {
		return err
	}
	defer storage.Close()

	running, stop := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	defer func() {
		stop()
		if serveErr := g.Wait(); serveErr != nil {
			err = serveErr // the cause of all other errors
		}
	}()
	storage.serve(running, g, a)
	emulator, err := startEmulator(running, s.binary, folder, a)
	if err != nil {
		return err
	}
	defer func() {
		stop()
		_ = emulator.wait() // stopped on purpose
	}()

	proof, err := waitAndProve(running, emulator, folder, a, storage)
	if ctx.Err() != nil {
		return errors.New("interrupted before the proof")
	}
	if err != nil {
		return emulator.withLog(err)
	}
	proof.print(out)
	if s.oneshot {
		return nil
	}
	if err := printCommands(out, a, storage); err != nil {
		return err
	}
	logLevel.Set(slog.LevelInfo)
	select {
	case <-running.Done(): // interrupted, or g.Wait returns the error
		return nil
	case <-emulator.done:
		return emulator.withLog(emulator.unexpectedEnd())
	}
}

func waitAndProve(ctx context.Context, e *emulator, folder string, a addresses, s *cloudStorage) (*proof, error) {
	if err := e.waitReady(ctx, a.admin); err != nil {
		return nil, err
	}
	return prove(ctx, folder, a, s)
}
