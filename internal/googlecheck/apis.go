package googlecheck

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/api/serviceusage/v1"

	"gke-metadata-emulator/tokens"
)

const stsService = "sts.googleapis.com"

// apiChecks are about APIs that are not enabled in the project.
func apiChecks() []Check {
	return []Check{{"apis/disabled STS is refused with its name", "403 SERVICE_DISABLED that names " + stsService,
		"inferred from IAM Credentials, google/kctf#194", disabledSTS}}
}

func disabledSTS(ctx context.Context, s *scratch) (string, bool, error) {
	if !s.DisableAPIs {
		return "", false, notApplicable("it disables " + stsService + " in the project for some minutes; permit it by --disable-apis")
	}
	if _, err := s.federatedToken(ctx); err != nil {
		return "", false, err
	}
	service := "projects/" + s.Project + "/services/" + stsService
	forget := s.willLeave(remain{
		command: "gcloud services enable " + stsService + " --project=" + s.Project,
		remove: func(ctx context.Context) error {
			_, err := s.services.Enable(service, &serviceusage.EnableServiceRequest{}).Context(ctx).Do()
			return err
		},
	})
	if _, err := s.services.Disable(service, &serviceusage.DisableServiceRequest{DisableDependentServices: false}).Context(ctx).Do(); err != nil {
		forget(err)
		return "", false, fmt.Errorf("disable %s: %v", stsService, err)
	}
	var refusal error
	ended := s.until(ctx, func() bool {
		_, refusal = s.exchange(ctx, s.issuer.value, time.Hour, tokens.CloudPlatform)
		return refusal != nil
	})
	if ended != nil {
		return "", false, ended
	}
	observed, holds, err := is(refusal, http.StatusForbidden, stsService)
	a, _ := answerOf(refusal)
	return observed, holds && a.reason == "SERVICE_DISABLED", err
}
