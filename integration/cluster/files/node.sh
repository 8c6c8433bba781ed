# Makes the namespaces of a node what a node needs, as its first process, which
# then does nothing more than hold them. $1 is the folder of the node's files, $2
# its name, $3 the folder of the CNI plugins, $4 the machine's cgroup hierarchies, and
# $5 the path of the node's cgroup in each.
set -eu
mount --make-rprivate /
echo "$2" >/proc/sys/kernel/hostname
echo 1 >/proc/sys/net/ipv4/ip_forward

# /sys of this network namespace. Of the machine's cgroups the node sees its own
# only, as if they were all: kubelet makes /sys/fs/cgroup/.../kubepods as everywhere.
# Nothing else may be mounted there, not even hidden: runc reads the list of mounts.
mkdir -p "$1/sys"
mount -t sysfs sysfs "$1/sys"
if [ "$4" = /sys/fs/cgroup ]; then
	mount --bind "$4$5" "$1/sys/fs/cgroup"
else
	mount -t tmpfs -o mode=755 cgroup "$1/sys/fs/cgroup"
	for hierarchy in $4; do
		mkdir -p "$1$hierarchy"
		mount --bind "$hierarchy$5" "$1$hierarchy"
	done
fi
mount -t bpf bpf "$1/sys/fs/bpf" || echo "no bpffs for this node"
umount --recursive --lazy /sys
mount --move "$1/sys" /sys

# What is written below these is the node's own and survives a reboot.
for folder in etc opt var/lib var/log; do
	mkdir -p "$1/upper/$folder" "$1/scratch/$folder"
	mount -t overlay -o "lowerdir=/$folder,upperdir=$1/upper/$folder,workdir=$1/scratch/$folder" overlay "/$folder"
done
# Not in an overlay: one cannot be made in another, and containerd makes them.
for folder in var/lib/containerd var/lib/kubelet etc/cni/net.d; do
	mkdir -p "$1/$folder" "/$folder"
	mount --bind "$1/$folder" "/$folder"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/containerd /run/netns /opt/cni/bin
mount --bind "$3" /opt/cni/bin

# The kernel lets a pod with users of its own mount a /proc only while the node sees
# one of which nothing is hidden, mount_namespaces(7): what is next hides parts.
mkdir /run/proc
mount -t proc proc /run/proc

# kubelet wants these and sets them for the whole machine. It is content with
# files that have the values already.
mkdir -p "$1/sysctl"
while read -r name value; do
	echo "$value" >"$1/sysctl/$(basename "$name")"
	mount --bind "$1/sysctl/$(basename "$name")" "/proc/sys/$name"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

# Mounts of pods with propagation are to be seen on the node.
mount --make-rshared /
touch /run/node-is-there
exec sleep infinity
