package main

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

const namespace = "gke-metadata-emulator"

// rendered maps the file name of a template to its manifests.
type rendered map[string]string

// render renders the chart as helm template does, without empty files.
func render(deploy string, values map[string]any) (rendered, error) {
	chart, err := loader.LoadDir(filepath.Join(deploy, "helm"))
	if err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "gke-metadata-emulator", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	manifests := rendered{}
	for name, content := range files {
		name = path.Base(name)
		if path.Ext(name) == ".yaml" && strings.TrimSpace(content) != "" {
			manifests[name] = strings.TrimSpace(content) + "\n"
		}
	}
	return manifests, nil
}

// placeholderProvider is what deploy/federation/kustomization.yaml replaces.
const placeholderProvider = "//iam.googleapis.com/projects/PROJECT_NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"

// renderForKustomize renders the chart with the placeholder as provider. The chart's schema
// accepts only full names, so a stand-in takes the placeholder's place meanwhile.
func renderForKustomize(deploy string, values map[string]any) (rendered, error) {
	const standIn = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/stand-in/providers/stand-in"
	values["settings"] = map[string]any{"projectId": "stand-in", "workloadIdentityProvider": standIn}
	manifests, err := render(deploy, values)
	for name, content := range manifests {
		manifests[name] = strings.ReplaceAll(content, standIn, placeholderProvider)
	}
	return manifests, err
}

// generated returns the contents of the generated files by their path below deploy/.
func generated(deploy string) (map[string]string, error) {
	manifests, err := renderForKustomize(deploy, map[string]any{
		"createNamespace":   true,
		"existingConfigMap": "gke-metadata-emulator", // made by kustomize
		"startupTaint":      map[string]any{"enabled": false},
	})
	if err != nil {
		return nil, err
	}
	tainted, err := renderForKustomize(deploy, map[string]any{
		"startupTaint": map[string]any{"enabled": true},
	})
	if err != nil {
		return nil, err
	}
	files := map[string]string{"startup-taint/rbac.yaml": notice + tainted["startup-taint.yaml"]}
	for _, name := range []string{"namespace.yaml", "rbac.yaml", "admission.yaml", "daemonset.yaml"} {
		if manifests[name] == "" {
			return nil, fmt.Errorf("the chart has rendered no %s", name)
		}
		files["base/"+name] = notice + manifests[name]
	}
	if files[schemaFile], err = schema(deploy); err != nil {
		return nil, err
	}
	files["../docs/install.md"], err = document(deploy)
	return files, err
}

const notice = "# Made from deploy/helm; change it there.\n"
