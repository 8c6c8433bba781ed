package handover

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// MinKey is how many bytes a key has at least.
	MinKey = 32
	// MaxSize is how many bytes a file holds at most: it is memory of the node.
	MaxSize = 16 << 20
)

// A file is a header and what AES-256-GCM made of the content, nonce first. The key of
// each is another (HKDF with SHA-256 and the salt), so that all nodes of a cluster may
// write for ever with the one that they share.
const (
	version    = 1 // the first byte
	timeSize   = 8 // nanoseconds since 1970, when it was written
	saltSize   = 32
	headerSize = 1 + timeSize + saltSize
	overhead   = headerSize + 12 + 16 // with the nonce and the tag
)

// slack is how far the clock may have been set back since a file was written.
const slack = 2 * time.Second

// ErrShortKey is of a key with fewer than [MinKey] bytes.
var ErrShortKey = fmt.Errorf("a key has %d bytes at least", MinKey)

// File is where an instance leaves what the next one is to know.
type File struct {
	path   string
	key    []byte
	maxAge time.Duration
	now    func() time.Time
}

// New says which file, with which key, and for how long what it holds is of use. The
// error is [ErrShortKey], or says why the file's folder will not do.
func New(path string, key []byte, maxAge time.Duration, now func() time.Time) (*File, error) {
	if len(key) < MinKey {
		return nil, ErrShortKey
	}
	if err := inMemory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return &File{path: path, key: key, maxAge: maxAge, now: now}, nil
}

// Write replaces the file. Only who gives the same binding gets the content back.
func (f *File) Write(content, binding []byte) error {
	if len(content) > MaxSize {
		return fmt.Errorf("%d bytes are more than a file may hold", len(content))
	}
	// Asked each time: another file system may be mounted meanwhile.
	if err := inMemory(filepath.Dir(f.path)); err != nil {
		return err
	}
	header := make([]byte, headerSize, len(content)+overhead)
	header[0] = version
	binary.BigEndian.PutUint64(header[1:], uint64(f.now().UnixNano()))
	_, _ = rand.Read(header[1+timeSize:]) // it never fails
	aead, err := f.aead(header)
	if err != nil {
		return err
	}
	return replace(f.path, aead.Seal(header, nil, content, append(bytes.Clone(header), binding...)))
}

// Read returns the content of the file. The error says why there is none, and is
// [fs.ErrNotExist] where there is no file.
func (f *File) Read(binding []byte) ([]byte, error) {
	sealed, err := read(f.path)
	if err != nil {
		return nil, err
	}
	if len(sealed) < overhead || sealed[0] != version {
		return nil, fmt.Errorf("%s is not of this form", f.path)
	}
	header := sealed[:headerSize]
	aead, err := f.aead(header)
	if err != nil {
		return nil, err
	}
	content, err := aead.Open(nil, nil, sealed[headerSize:], append(bytes.Clone(header), binding...))
	if err != nil {
		return nil, fmt.Errorf("%s does not open: it is sealed with another key or under other settings, or damaged", f.path)
	}
	switch age := f.now().Sub(time.Unix(0, int64(binary.BigEndian.Uint64(header[1:])))); {
	case age > f.maxAge:
		return nil, fmt.Errorf("%s is %s old", f.path, age.Round(time.Second))
	case age < -slack:
		// By the clock that it was written by nothing in it has the life that it says.
		return nil, fmt.Errorf("%s is from the future: the clock has been set back by %s", f.path, -age.Round(time.Second))
	}
	return content, nil
}

// aead is the cipher of the file with that header.
func (f *File) aead(header []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, f.key, header[1+timeSize:], "gke-metadata-emulator handover", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func read(path string) ([]byte, error) {
	// What is no file could be a pipe, which is opened when somebody writes.
	if info, err := os.Lstat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sealed, err := io.ReadAll(io.LimitReader(file, MaxSize+overhead+1))
	if err == nil && len(sealed) > MaxSize+overhead {
		err = fmt.Errorf("%s is too large", path)
	}
	return sealed, err
}

// replace writes the whole file or leaves the one that is there.
func replace(path string, content []byte) error {
	// One that a crash left. What is there is never written through: it may be a link.
	if err := os.Remove(unfinished(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(unfinished(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(unfinished(path))) // it would fill the memory
	}
	return os.Rename(unfinished(path), path)
}

// Remove removes the file, and its folder if it is empty and ours. It returns nil if
// there is no file.
func Remove(path string) error {
	var errs []error
	for _, ours := range []string{path, unfinished(path)} {
		if err := os.Remove(ours); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if folder := filepath.Dir(path); filepath.Base(folder) == "gke-metadata-emulator" {
		_ = os.Remove(folder) // fails for a mount point, and for a folder with other files
	}
	return errors.Join(errs...)
}

func unfinished(path string) string { return path + ".new" }
