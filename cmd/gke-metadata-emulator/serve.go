package main

import (
	"time"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/daemon"
)

func newServe(env lookupEnv) *cobra.Command {
	s := &daemon.Serve{}

	node := newGroup("The node")
	node.StringVar(&s.NodeName, "node-name", "", "`name` of the Kubernetes node that this is (required)")
	node.StringVar(&s.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server (the pod's own service account where empty)")
	node.StringVar(&s.Listen, "listen", daemon.MetadataAddress+":80", "`IP:PORT` that pods connect to")
	node.StringVar(&s.AdminListen, "admin-listen", "127.0.0.1:8989", "`IP:PORT` of health, readiness and metrics")
	node.StringVar(&s.Routing, "routing", daemon.RoutingAddress, "how packets for the metadata address get here: ebpf or nftables (sent to --listen), address (on an interface of the node), none (pods set GCE_METADATA_HOST) or auto (the first that the node permits and --listen allows); see docs/routing-modes.md")
	node.StringVar(&s.Interface, "interface", "lo", "`name` of the interface for --routing=address")
	node.StringVar(&s.BPFFS, "bpffs", "/sys/fs/bpf", "`folder` of a bpffs, where the redirect of --routing=ebpf is kept")
	node.StringVar(&s.Attestation, "attestation", daemon.AttestationPrefer, "who a caller is: require (the pod that the kernel proves, or none), prefer (by its address where the kernel has no proof) or ip (by its address)")
	node.StringVar(&s.CgroupRoot, "cgroup-root", "", "`folder` below which the kubelet makes the cgroup of all pods, kubepods (the usual places where empty)")
	node.StringVar(&s.StartupTaint, "startup-taint", "", "`key` of the taint that is removed from the node once the daemon serves (none where empty)")
	node.DurationVar(&s.IdentityWait, "identity-wait", 2500*time.Millisecond, "how long a request waits for the API server to announce its pod, before 503")

	credentials := newGroup("Credentials")
	credentials.StringVar(&s.Credentials, "credentials", daemon.Federation, "federation (Google knows the cluster's issuer), impersonation (by one credential of yours) or fake (a built-in offline Google)")
	credentials.StringVar(&s.Provider, "workload-identity-provider", "", "full `name` of the workload identity provider: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER (required with federation)")
	credentials.StringVar(&s.SourceCredentials, "source-credentials", "", "`file` of the credential for impersonation: any that Google's libraries take (Application Default Credentials where empty)")
	credentials.StringVar(&s.Policy, "impersonation-policy", "", "who may use which Google service account with impersonation: iam (its own IAM policy says so, as on GKE; where empty), file (--policy-file does) or off (all pods may use all)")
	credentials.StringVar(&s.PolicyFile, "policy-file", "", "`file` of rules for --impersonation-policy=file")

	return command(&cobra.Command{
		Use:   "serve",
		Short: "Serve the pods of one node",
		Long:  "Serve the metadata of GKE's metadata server to the pods of one node.",
	}, env, s, func(c *cobra.Command) error { return s.Run(c.Context(), c.ErrOrStderr()) },
		node, credentials, projectFlags(&s.Project, "required, but with --credentials=fake"), googleFlags(&s.Google, ""), logFlags(&s.Logging))
}
