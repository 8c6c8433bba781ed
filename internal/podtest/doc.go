// Package podtest answers one question: what do pods look like to a node's kernel? For
// tests it creates cgroups with the kubelet's names, network namespaces with their own
// addresses, and processes in them that connect on command. All of it is removed when
// the test ends. It must not know the code under test.
package podtest
