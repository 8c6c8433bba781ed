package clients

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const craneModule = "tools/crane"

// gcrane is crane with Google's keychain, which kaniko and ko have too.
func gcrane() client {
	return client{
		name: "gcrane", sometimes: goProbe, does: "push and pull an image, with Google's keychain",
		install: func(t testing.TB) installed {
			return installed{
				version: locked(t, craneModule+"/go.mod", `\tgithub\.com/google/(go-containerregistry) (v\S+)`),
				program: []string{goProgram(t, "gcrane", craneModule, "github.com/google/go-containerregistry/cmd/gcrane")},
			}
		},
		open: func(s *session, i installed) (worker, error) {
			return &commands{session: s, wrote: func(s *session, name string) error { return pushAndPull(s, i.program[0], name) }}, nil
		},
	}
}

// crane has its credentials of docker-credential-gcr, as Docker would.
func crane() client {
	return client{
		name: "crane with docker-credential-gcr", sometimes: goProbe, does: "configure-docker; push and pull an image",
		// The helper gives no token with less than 10 s left.
		shortLife: 2 * shortLife,
		install: func(t testing.TB) installed {
			helper := goProgram(t, "docker-credential-gcr", "tools/docker-credential-gcr", "github.com/GoogleCloudPlatform/docker-credential-gcr/v2")
			return installed{
				version: locked(t, craneModule+"/go.mod", `\tgithub\.com/google/(go-containerregistry) (v\S+)`) + ", " +
					locked(t, "tools/docker-credential-gcr/go.mod", `\tgithub\.com/GoogleCloudPlatform/(docker-credential-gcr)/v2 (v\S+)`),
				program: []string{goProgram(t, "crane", craneModule, "github.com/google/go-containerregistry/cmd/crane"), helper},
				path:    filepath.Dir(helper), // by which crane finds it
			}
		},
		open: func(s *session, i installed) (worker, error) {
			if _, err := s.do(i.program[1], "configure-docker", "--registries="+registryHost); err != nil {
				return nil, err
			}
			return &commands{session: s, wrote: func(s *session, name string) error { return pushAndPull(s, i.program[0], name) }}, nil
		},
	}
}

// pushAndPull checks that the image that comes back is the one that went.
func pushAndPull(s *session, crane, image string) error {
	reference, err := name.NewTag(registryHost + "/" + projectID + "/images/" + image + ":1")
	if err != nil {
		return err
	}
	pushed, err := random.Image(1024, 2)
	if err != nil {
		return err
	}
	there, back := s.file(image+".tar"), s.file(image+".pulled.tar")
	if err := tarball.WriteToFile(there, reference, pushed); err != nil {
		return err
	}
	if _, err := s.do(crane, "push", there, reference.String()); err != nil {
		return err
	}
	if _, err := s.do(crane, "pull", reference.String(), back); err != nil {
		return err
	}
	pulled, err := tarball.ImageFromPath(back, &reference)
	if err != nil {
		return err
	}
	want, err := pushed.ConfigName()
	if err != nil {
		return err
	}
	if got, err := pulled.ConfigName(); err != nil || got != want {
		return fmt.Errorf("%s: pulled image %s (%v), pushed %s", image, got, err, want)
	}
	return nil
}
