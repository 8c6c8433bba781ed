package deployment

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"gke-metadata-emulator/integration/internal/checkout"
)

// manifests are those of an overlay of deploy/, with the placeholders filled in,
// as kubectl apply -k would send them.
func manifests(options Options) ([]byte, error) {
	root, err := checkout.Root()
	if err != nil {
		return nil, err
	}
	files := filesys.MakeFsInMemory()
	deploy := filepath.Join(root, "deploy")
	err = filepath.WalkDir(deploy, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return files.WriteFile(filepath.Join("/deploy", strings.TrimPrefix(path, deploy)), content)
	})
	if err != nil {
		return nil, err
	}
	if options.Overlay == "" {
		options.Overlay = "federation"
	}
	kustomization := "/deploy/" + options.Overlay + "/kustomization.yaml"
	content, err := files.ReadFile(kustomization)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", options.Overlay, err)
	}
	filled := strings.NewReplacer(
		"PROJECT_ID=PROJECT_ID", "PROJECT_ID="+ProjectID,
		"PROJECT_NUMBER=PROJECT_NUMBER", "PROJECT_NUMBER="+ProjectNumber,
		"WORKLOAD_IDENTITY_POOL=POOL", "WORKLOAD_IDENTITY_POOL="+strings.TrimPrefix(Pool, "//iam.googleapis.com/"),
		"//iam.googleapis.com/projects/PROJECT_NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", Provider,
	).Replace(string(content))
	settings := []string{"GME_LOG_LEVEL=debug"}
	if options.Google == nil {
		settings = append(settings,
			"GME_STS_ENDPOINT=http://"+googleAddress,
			"GME_IAM_CREDENTIALS_ENDPOINT=http://"+googleAddress,
			"GME_IAM_ENDPOINT=http://"+googleAddress)
	}
	settings = append(settings, options.Settings...)
	overlay := "resources: [../deploy/" + options.Overlay + "]\nconfigMapGenerator:\n- name: " + Name + "\n  namespace: " + Name +
		"\n  behavior: merge\n  literals:\n  - " + strings.Join(settings, "\n  - ") + "\n"
	if options.Patch != "" {
		overlay += "patches:\n- path: patch.yaml\n"
	}
	for path, content := range map[string]string{
		kustomization: filled, "/overlay/kustomization.yaml": overlay, "/overlay/patch.yaml": options.Patch,
	} {
		if err := files.WriteFile(path, []byte(content)); err != nil {
			return nil, err
		}
	}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/overlay")
	if err != nil {
		return nil, err
	}
	return objects.AsYaml()
}
