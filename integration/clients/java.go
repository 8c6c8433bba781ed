package clients

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// closureFile lists the jars that Maven must come to, as sha256sum(1) does. Maven
// itself has no lock file.
const closureFile = "java/closure.sha256"

// java has Google's Java libraries, resolved by Maven and compared with the closure.
func java() client {
	offers := []string{"project", "zone", "email", "access", "id"}
	open := converse(offers...)
	return client{name: "Java", does: doing(offers...), install: installJava, open: func(s *session, i installed) (worker, error) {
		store := s.file("trust.p12")
		err := command(s.t.Context(), "", nil, "keytool", "-importcert", "-noprompt", "-storetype", "PKCS12",
			"-keystore", store, "-storepass", "changeit", "-file", s.file("ca.pem"))
		if err != nil {
			return nil, err
		}
		i.program = append([]string{i.program[0], "-Djavax.net.ssl.trustStore=" + store, "-Djavax.net.ssl.trustStorePassword=changeit"}, i.program[1:]...)
		return open(s, i)
	}}
}

func installJava(t testing.TB) installed {
	files := []string{"java/pom.xml", closureFile, "java/Main.java"}
	version := toolchain(t, "mvn", "--version") + toolchain(t, "javac", "-version")
	folder := install(t, "java", version, files, func(ctx context.Context, folder string) error {
		if err := copyFiles(folder, files...); err != nil {
			return err
		}
		repository, jars := filepath.Join(folder, "repository"), filepath.Join(folder, "jars")
		err := command(ctx, folder, nil, "mvn", "--batch-mode", "--quiet", "--strict-checksums", "-Dmaven.repo.local="+repository,
			"org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies", "-DoutputDirectory="+jars)
		if err != nil {
			return err
		}
		if err := sameClosure(jars, closureFile); err != nil {
			return err
		}
		if err := os.RemoveAll(repository); err != nil { // with Maven's own plugins
			return err
		}
		return command(ctx, folder, nil, "javac", "-cp", jars+"/*", "-d", folder, "Main.java")
	})
	return installed{
		version: locked(t, "java/pom.xml", `<artifactId>(google-[\w-]+)</artifactId>\s*<version>([^<]+)</version>`),
		program: []string{onPath(t, "java"), "-cp", folder + ":" + folder + "/jars/*", "Main"},
	}
}

// sameClosure returns an error unless a folder has the jars of the closure and no
// other.
func sameClosure(folder, closure string) error {
	list, err := os.ReadFile(closure)
	if err != nil {
		return err
	}
	want := map[string]string{}
	for line := range strings.Lines(string(list)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		want[name] = sum
	}
	jars, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, jar := range jars {
		content, err := os.ReadFile(filepath.Join(folder, jar.Name()))
		if err != nil {
			return err
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(content)); want[jar.Name()] != sum {
			return fmt.Errorf("%s has the checksum %s, %s has %q", jar.Name(), sum, closure, want[jar.Name()])
		}
		delete(want, jar.Name())
	}
	if len(want) != 0 {
		return fmt.Errorf("%s has jars that Maven did not come to: %v", closure, want)
	}
	return nil
}
