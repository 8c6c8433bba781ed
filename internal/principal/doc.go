// Package principal answers one question: by which member names can an IAM policy refer to
// a KSA?
//
// The names follow from Google's documentation only. The package must not know which of
// them a policy contains, nor how a KSA proves itself to Google.
package principal
