// Package gcs is a stand-in for Cloud Storage: fake-gcs-server behind a front
// that demands a token of fakegoogle's, so that a test sees who wrote what.
//
// The front checks what Cloud Storage checks first: that there is a token, that
// it is genuine and alive, and that its scopes suffice. It asks fakegoogle by
// HTTP, so both may be in different processes. IAM permissions on buckets are
// [Options.Authorize]. All else is fake-gcs-server's, in memory.
//
// # Reaching it with an unmodified client
//
// STORAGE_EMULATOR_HOST is of no use: the Go client then sends no token at all
// (storage v1.70.0 puts option.WithoutAuthentication before its other options).
// [Proxy] is what is used instead. It takes the place of
// https://storage.googleapis.com for clients that have
//
//	HTTPS_PROXY=http://127.0.0.1:PORT
//	SSL_CERT_FILE=FILE_WITH_PROXY_CA
//
// and refuses every other host, so nothing leaves the machine. Go ignores
// SSL_CERT_FILE on macOS and Windows; see crypto/x509.SystemCertPool.
//
// # What it does not do
//
// Signed URLs, anonymous access to public objects, batches and gRPC.
package gcs
