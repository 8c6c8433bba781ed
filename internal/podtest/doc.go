// Package podtest makes, for tests, what a kubelet makes of pods: cgroups with its
// names, network namespaces with an address of their own, and processes in them
// that connect when they are told. All of it ends with the test.
package podtest
