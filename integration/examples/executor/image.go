package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// build makes the image of a Dockerfile: FROM scratch, COPY of files,
// ENTRYPOINT as a list. Anything else is refused, not ignored.
func build(files map[string]file, dockerfile string) (v1.Image, error) {
	text, there := files[path.Clean(dockerfile)]
	if !there {
		return nil, fmt.Errorf("the context has no %s", dockerfile)
	}
	var copied [][2]string
	config := v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH}
	begun := false
	for line := range strings.Lines(string(text.content)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case !begun && len(words) == 2 && words[0] == "FROM" && words[1] == "scratch":
			begun = true
		case begun && len(words) == 3 && words[0] == "COPY":
			copied = append(copied, [2]string{words[1], words[2]})
		case begun && words[0] == "ENTRYPOINT":
			if err := json.Unmarshal([]byte(strings.TrimSpace(strings.TrimPrefix(line, words[0]))), &config.Config.Entrypoint); err != nil {
				return nil, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
			}
		default:
			return nil, fmt.Errorf("%s: only FROM scratch, COPY and ENTRYPOINT are understood; use kaniko", strings.TrimSpace(line))
		}
	}
	layer, err := layerOf(files, copied)
	if err != nil {
		return nil, err
	}
	image, err := mutate.ConfigFile(empty.Image, &config)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, layer)
}

func layerOf(files map[string]file, copied [][2]string) (v1.Layer, error) {
	var content bytes.Buffer
	layer := tar.NewWriter(&content)
	for _, c := range copied {
		from, there := files[path.Clean(c[0])]
		if !there {
			return nil, fmt.Errorf("COPY %s: it is not in the context", c[0])
		}
		to := strings.TrimPrefix(path.Clean(c[1]), "/")
		if err := layer.WriteHeader(&tar.Header{Name: to, Mode: from.mode, Size: int64(len(from.content))}); err != nil {
			return nil, err
		}
		if _, err := layer.Write(from.content); err != nil {
			return nil, err
		}
	}
	if err := layer.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
}
