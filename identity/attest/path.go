package attest

import (
	"fmt"
	"regexp"
	"strings"
)

// NotAPodError says that a cgroup belongs to no pod.
type NotAPodError struct {
	Path string
}

func (e *NotAPodError) Error() string {
	return fmt.Sprintf("the cgroup %s is of no pod", e.Path)
}

// ConflictError says that a cgroup would belong to two pods, one right below the
// other, which no kubelet makes.
type ConflictError struct {
	Path string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the cgroup %s names two pods", e.Path)
}

// podName is how a pod's cgroup is called: pod and its UID, a UUID; or, for a
// static pod, the hash of its file. The systemd driver writes the path from the
// root into each name and an underscore for each dash, because a dash separates
// levels there (systemd.slice(5)):
//
//	cgroupfs: pod1f0d5b6c-2f0e-4d0a-9a53-3f1f4a3f7c11
//	systemd:  kubepods-burstable-pod1f0d5b6c_2f0e_4d0a_9a53_3f1f4a3f7c11.slice
var (
	uid         = `([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})`
	podCgroupfs = regexp.MustCompile(`^pod` + uid + `$`)
	podSystemd  = regexp.MustCompile(`-pod` + uid + `\.slice$`)
)

// podUID is the UID of the pod that a cgroup belongs to; for a static pod, the
// hash of its file. The path is below kubepods, the cgroup of all pods, which the
// caller has verified: users can make cgroups of any name in other places.
//
// The pod's cgroup is right below kubepods, or below that of a class of quality
// of service. What is deeper is a container's own business: it may make cgroups
// of any name too.
func podUID(kubepods, path string) (string, error) {
	below, inside := strings.CutPrefix(path, strings.TrimSuffix(kubepods, "/")+"/")
	if !inside {
		return "", &NotAPodError{path}
	}
	names := strings.Split(below, "/")
	if isClass(names[0]) {
		names = names[1:]
	}
	if len(names) == 0 {
		return "", &NotAPodError{path}
	}
	pod := podOf(names[0])
	if pod == "" {
		return "", &NotAPodError{path}
	}
	if len(names) > 1 {
		if other := podOf(names[1]); other != "" && other != pod {
			return "", &ConflictError{path}
		}
	}
	return pod, nil
}

func podOf(name string) string {
	for _, form := range []*regexp.Regexp{podCgroupfs, podSystemd} {
		if match := form.FindStringSubmatch(name); match != nil {
			return strings.ReplaceAll(match[1], "_", "-")
		}
	}
	return ""
}

// isClass says whether a cgroup holds the pods of a class of quality of service;
// those of Guaranteed are right below kubepods.
func isClass(name string) bool {
	switch name {
	case "burstable", "besteffort":
		return true
	}
	return strings.HasSuffix(name, "kubepods-burstable.slice") || strings.HasSuffix(name, "kubepods-besteffort.slice")
}
