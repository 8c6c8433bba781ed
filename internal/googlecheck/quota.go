package googlecheck

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/api/iamcredentials/v1"

	"gke-metadata-emulator/tokens"
)

// quotaChecks are about calls with a person's credential that name no quota project.
func quotaChecks() []Check {
	source := "turbot/steampipe-plugin-gcp#249: IAM Credentials answered such a call with a plain PERMISSION_DENIED"
	return []Check{
		{"quota/IAM answers a user credential without a quota project", "200 from getIamPolicy with the project -", source,
			asUser(func(ctx context.Context, s *scratch, account string) (string, bool, error) {
				_, err := s.unbilled.Projects.ServiceAccounts.GetIamPolicy("projects/-/serviceAccounts/" + account).OptionsRequestedPolicyVersion(3).Context(ctx).Do()
				return is(err, http.StatusOK, "")
			})},
		{"quota/IAM Credentials answers a user credential without a quota project", "200 from generateAccessToken, or a missing permission, which is IAM's own decision", source,
			asUser(func(ctx context.Context, s *scratch, account string) (string, bool, error) {
				_, err := s.unbilledIAM.GenerateAccessToken("projects/-/serviceAccounts/"+account,
					&iamcredentials.GenerateAccessTokenRequest{Scope: []string{tokens.CloudPlatform}}).Context(ctx).Do()
				a, err := answerOf(err)
				// A credential that may not act as the account gets IAM's own refusal, which in 2021
				// had no reason.
				decided := a.code == http.StatusForbidden && strings.Contains(a.text, "ermission") && (a.reason == "" || a.reason == "IAM_PERMISSION_DENIED")
				return a.String(), a.code == http.StatusOK || decided, err
			})},
	}
}

func asUser(check func(context.Context, *scratch, string) (string, bool, error)) run {
	return func(ctx context.Context, s *scratch) (string, bool, error) {
		if !s.UserCredential {
			return "", false, notApplicable("it needs a user credential; run 'gcloud auth application-default login' and leave out --source-credentials")
		}
		account, err := s.gsa(ctx)
		if err != nil {
			return "", false, err
		}
		return check(ctx, s, account)
	}
}
