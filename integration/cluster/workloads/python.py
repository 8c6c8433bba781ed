"""A workload with Google's Python library: its account, and an access token."""

import google.auth
import google.auth.transport.requests

credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.service_account_email)
print(credentials.token)
