package attest

import (
	"fmt"
	"regexp"
	"strings"
)

// NotAPodError is returned for a cgroup that belongs to no pod.
type NotAPodError struct {
	Path string
}

func (e *NotAPodError) Error() string {
	return fmt.Sprintf("the cgroup %s belongs to no pod", e.Path)
}

// ConflictError is returned for a cgroup whose path names two pods, one directly below the
// other. No kubelet makes such a path.
type ConflictError struct {
	Path string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the cgroup %s names two pods", e.Path)
}

// The name of a pod's cgroup is "pod" and the pod's UID: a UUID, or the hash of its file
// for a static pod. With the systemd driver each name repeats the path from the root, and
// has an underscore for each dash of the UID, because a dash separates levels
// (systemd.slice(5)):
//
//	cgroupfs: pod1f0d5b6c-2f0e-4d0a-9a53-3f1f4a3f7c11
//	systemd:  kubepods-burstable-pod1f0d5b6c_2f0e_4d0a_9a53_3f1f4a3f7c11.slice
var (
	uidPattern  = `([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})`
	podCgroupfs = regexp.MustCompile(`^pod` + uidPattern + `$`)
	podSystemd  = regexp.MustCompile(`-pod` + uidPattern + `\.slice$`)
)

// podUID returns the UID of the pod to which a cgroup belongs; for a static pod, the hash
// of its file. Only a path below kubepods, the cgroup of all pods, belongs to a pod: users
// can make cgroups of any name elsewhere.
//
// The pod's cgroup is directly below kubepods, or below the cgroup of a class of quality
// of service. Deeper names prove nothing, because a container can make cgroups of any
// name too.
func podUID(kubepods, path string) (string, error) {
	relative, inside := strings.CutPrefix(path, strings.TrimSuffix(kubepods, "/")+"/")
	if !inside {
		return "", &NotAPodError{path}
	}
	names := strings.Split(relative, "/")
	if isQoSClass(names[0]) {
		names = names[1:]
	}
	if len(names) == 0 {
		return "", &NotAPodError{path}
	}
	pod := uidFromName(names[0])
	if pod == "" {
		return "", &NotAPodError{path}
	}
	if len(names) > 1 {
		if other := uidFromName(names[1]); other != "" && other != pod {
			return "", &ConflictError{path}
		}
	}
	return pod, nil
}

func uidFromName(name string) string {
	for _, pattern := range []*regexp.Regexp{podCgroupfs, podSystemd} {
		if match := pattern.FindStringSubmatch(name); match != nil {
			return strings.ReplaceAll(match[1], "_", "-")
		}
	}
	return ""
}

// isQoSClass reports whether a cgroup has the pods of a class of quality of service. The
// pods of Guaranteed are directly below kubepods.
func isQoSClass(name string) bool {
	switch name {
	case "burstable", "besteffort":
		return true
	}
	return strings.HasSuffix(name, "kubepods-burstable.slice") || strings.HasSuffix(name, "kubepods-besteffort.slice")
}
