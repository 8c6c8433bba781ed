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
	node.StringVar(&s.DMIProductName, "dmi-product-name", "", "`file` that containers see as their machine's DMI product name, to say Google Compute Engine; on a node of kind it is /kind/product_name (left alone where empty)")
	node.StringVar(&s.DMIOriginal, "dmi-original", daemon.OriginalProductName, "`file` where what that one held is kept, for cleanup")
	node.BoolVar(&s.Events, "events", true, "say by Kubernetes events on a pod why it gets no identity or no token, and what to do")
	node.BoolVar(&s.Prefetch, "prefetch", true, "ask for the access tokens of each pod whose KSA is linked to a GSA (with no scopes said, and for cloud-platform) when the pod is bound to the node, so that they are there before the container is")
	node.StringVar(&s.OTLPEndpoint, "otlp-endpoint", "", "base `URL` of an OpenTelemetry collector, like http://collector:4318, that gets a trace of each mint (none where empty)")
	node.DurationVar(&s.IdentityWait, "identity-wait", 2500*time.Millisecond, "how long a request waits for the API server to announce its pod, before 503")

	credentials := newGroup("Credentials")
	credentials.StringVar(&s.Credentials, "credentials", daemon.Federation, "federation (Google knows the cluster's issuer), impersonation (by one credential of yours) or fake (a built-in offline Google)")
	credentials.StringVar(&s.Provider, "workload-identity-provider", "", "full `name` of the workload identity provider: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER (required with federation)")
	credentials.StringVar(&s.SourceCredentials, "source-credentials", "", "`file` of the credential for impersonation: any that Google's libraries take (Application Default Credentials where empty)")
	credentials.StringVar(&s.Policy, "impersonation-policy", "", "who may use which Google service account with impersonation: iam (its own IAM policy says so, as on GKE; where empty), file (--policy-file does) or off (all pods may use all)")
	credentials.StringVar(&s.PolicyFile, "policy-file", "", "`file` of rules: which KSA may use which Google service account, and what the tokens of a namespace may be at most; it is read again when it changes, see docs/policy.md")
	credentials.StringVar(&s.Delegates, "delegates", "", "`addresses` of Google service accounts, with commas between, through which the source credential reaches all others")
	credentials.StringVar(&s.NamespaceGSAs, "namespace-gsas", "", "`list` of the Google service accounts that the pods of a namespace may use at most: NAMESPACE=PATTERN,PATTERN with spaces between namespaces, * for all others (all where empty)")
	credentials.StringVar(&s.MaxScopes, "max-scopes", "", "`scopes` that access tokens may have at most, with commas between (all where empty)")
	credentials.DurationVar(&s.MaxTokenLife, "max-token-life", 0, "how long access tokens may live at most, from 10m to 1h (as Google gives them where 0)")
	credentials.StringVar(&s.AuditLog, "audit-log", "", "`file` to which a line of JSON is added for each token given or refused, - for standard output (none where empty); see docs/tokens.md")
	credentials.StringVar(&s.HandoverFile, "handover-file", "", "`file` on a tmpfs where the tokens are left, sealed, for the next instance on the node (none where empty); see docs/tokens.md")
	credentials.StringVar(&s.HandoverKeyFile, "handover-key-file", "", "`file` with the key of that one, at least 32 bytes")

	return command(&cobra.Command{
		Use:   "serve",
		Short: "Serve the pods of one node",
		Long:  "Serve the metadata of GKE's metadata server to the pods of one node.",
	}, env, s, func(c *cobra.Command) error { return s.Run(c.Context(), c.ErrOrStderr()) },
		node, credentials, projectFlags(&s.Project, "required, but with --credentials=fake"), googleFlags(&s.Google, ""), logFlags(&s.Logging))
}
