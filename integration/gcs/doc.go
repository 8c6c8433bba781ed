// Package gcs is a stand-in for Cloud Storage: fake-gcs-server behind a front
// that demands a token of fakegoogle's, so that a test sees who wrote what.
//
// The front checks what Cloud Storage checks first: that there is a token, that
// it is genuine and alive, and that its scopes suffice. It asks fakegoogle by
// HTTP, so both may be in different processes. IAM permissions on buckets are
// [Options.Authorize]. All else is fake-gcs-server's, in memory.
//
// A V4 signed URL of the XML API is taken in place of a token: the signature is
// verified with the account's keys of fakegoogle, and may do what the account may.
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
// V2 signed URLs, POST policies, resumable uploads by signed URL, anonymous
// access to public objects, object ACLs, IAM conditions, managed folders (there
// are none), batches and gRPC. Overwriting an object needs no permission to delete it, which Google
// demands. A resumable upload is not bound to who began it.
package gcs
