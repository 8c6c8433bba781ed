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
	// MinKey is the minimum length of a key, in bytes.
	MinKey = 32
	// MaxSize is the maximum size of the content, in bytes: the file is in the node's memory.
	MaxSize = 16 << 20
)

// A file is a header and the content sealed with AES-256-GCM, nonce first. Each file has
// a key of its own (HKDF with SHA-256 and the salt), so the nodes of a cluster can share
// one key without a limit on the number of files.
const (
	version    = 1 // the first byte
	timeSize   = 8 // when the file was written, in nanoseconds since 1970
	saltSize   = 32
	headerSize = 1 + timeSize + saltSize
	overhead   = headerSize + 12 + 16 // with the nonce (12 bytes) and the tag (16)
)

// slack is the largest step back of the clock that does not invalidate a file.
const slack = 2 * time.Second

// ErrShortKey is the error for a key with fewer than [MinKey] bytes.
var ErrShortKey = fmt.Errorf("a key must have at least %d bytes", MinKey)

// File is a sealed file by which an instance hands its state to the next one.
type File struct {
	path   string
	key    []byte
	maxAge time.Duration
	now    func() time.Time
}

// New returns the file at path, sealed with the key. Content older than maxAge is refused.
// The error is [ErrShortKey], or the reason why the folder of the file is unsuitable.
func New(path string, key []byte, maxAge time.Duration, now func() time.Time) (*File, error) {
	if len(key) < MinKey {
		return nil, ErrShortKey
	}
	if err := inMemory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return &File{path: path, key: key, maxAge: maxAge, now: now}, nil
}

// Write replaces the file. Only a [File.Read] with the same binding returns the content.
func (f *File) Write(content, binding []byte) error {
	if len(content) > MaxSize {
		return fmt.Errorf("the content has %d bytes, the limit is %d", len(content), MaxSize)
	}
	// Checked each time: another file system can have been mounted in the meantime.
	if err := inMemory(filepath.Dir(f.path)); err != nil {
		return err
	}
	header := make([]byte, headerSize, len(content)+overhead)
	header[0] = version
	binary.BigEndian.PutUint64(header[1:], uint64(f.now().UnixNano()))
	_, _ = rand.Read(header[1+timeSize:]) // never fails
	aead, err := f.aead(header)
	if err != nil {
		return err
	}
	return replace(f.path, aead.Seal(header, nil, content, append(bytes.Clone(header), binding...)))
}

// Read returns the content of the file. The error is [fs.ErrNotExist] if there is no file,
// or the reason why the file is refused.
func (f *File) Read(binding []byte) ([]byte, error) {
	sealed, err := read(f.path)
	if err != nil {
		return nil, err
	}
	if len(sealed) < overhead || sealed[0] != version {
		return nil, fmt.Errorf("%s is not a handover file of this version", f.path)
	}
	header := sealed[:headerSize]
	aead, err := f.aead(header)
	if err != nil {
		return nil, err
	}
	content, err := aead.Open(nil, nil, sealed[headerSize:], append(bytes.Clone(header), binding...))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be opened: it was sealed with another key or under other settings, or is damaged", f.path)
	}
	switch age := f.now().Sub(time.Unix(0, int64(binary.BigEndian.Uint64(header[1:])))); {
	case age > f.maxAge:
		return nil, fmt.Errorf("%s is too old: %s, the limit is %s", f.path, age.Round(time.Second), f.maxAge)
	case age < -slack:
		// The expiry times in the content are those of the clock before the step.
		return nil, fmt.Errorf("%s is from the future: the clock has been set back by %s", f.path, -age.Round(time.Second))
	}
	return content, nil
}

// aead returns the cipher of the file with the header.
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
	// Opening a pipe would block until another process writes to it.
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

// replace writes the whole file, or leaves the earlier one unchanged.
func replace(path string, content []byte) error {
	// A crash can have left an unfinished file. It is removed, not overwritten, because it
	// can be a link to another file.
	if err := os.Remove(unfinished(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(unfinished(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(unfinished(path))) // it would take memory
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
