package googlecheck

import (
	"context"
	"net/http"
)

const (
	workloadIdentityUser = "roles/iam.workloadIdentityUser"
	tokenCreator         = "roles/iam.serviceAccountTokenCreator"
)

// policyChecks are about the IAM policy of a service account.
func policyChecks() []Check {
	return []Check{
		{"policy/member of a missing GKE pool is refused",
			`400, "Identity Pool does not exist", in a project that never had a GKE cluster`,
			"google/kctf#193, terraform-google-modules/terraform-google-kubernetes-engine#916",
			func(ctx context.Context, s *scratch) (string, bool, error) {
				return s.storesMember(ctx, "serviceAccount:"+s.DottedProject+".svc.id.goog["+ksaNamespace+"/"+ksaName+"]", "Identity Pool does not exist")
			}},
		{"policy/principal of a missing pool is refused",
			"400, as for a member of a GKE pool",
			"inferred from the same threads",
			func(ctx context.Context, s *scratch) (string, bool, error) {
				pool, err := s.sharedPool(ctx)
				if err != nil {
					return "", false, err
				}
				return s.storesMember(ctx, "principal://iam.googleapis.com/"+pool+"-none/subject/"+ksaSubject, "")
			}},
		{"policy/account in another project's URL is not found",
			"404: the project in the URL of getIamPolicy has to be the account's",
			"IAM API v1, projects.serviceAccounts.getIamPolicy; inferred",
			func(ctx context.Context, s *scratch) (string, bool, error) {
				if s.OtherProject == "" {
					return "", false, notApplicable("it needs a second project of yours; add --other-project=PROJECT_ID")
				}
				account, err := s.gsa(ctx)
				if err != nil {
					return "", false, err
				}
				_, err = s.iam.Projects.ServiceAccounts.GetIamPolicy("projects/" + s.OtherProject + "/serviceAccounts/" + account).Context(ctx).Do()
				return is(err, http.StatusNotFound, "")
			}},
	}
}

// storesMember is the answer to a binding of the member, which has to be refused.
func (s *scratch) storesMember(ctx context.Context, member, text string) (string, bool, error) {
	account, err := s.gsa(ctx)
	if err != nil {
		return "", false, err
	}
	return is(s.bind(ctx, account, workloadIdentityUser, member), http.StatusBadRequest, text)
}
