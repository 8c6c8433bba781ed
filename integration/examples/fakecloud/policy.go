package fakecloud

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// policy is google.iam.v1.Policy, without conditions.
type policy struct {
	Kind     string    `json:"kind,omitempty"`       // of Cloud Storage
	Resource string    `json:"resourceId,omitempty"` // of Cloud Storage
	Version  int       `json:"version,omitempty"`
	ETag     string    `json:"etag,omitempty"`
	Bindings []binding `json:"bindings,omitempty"`
}

type binding struct {
	Role    string   `json:"role"`
	Members []string `json:"members"`
}

// normal writes addresses as IAM keeps them.
func normal(member string) string {
	for _, kind := range []string{"user:", "serviceAccount:"} {
		if address, ok := strings.CutPrefix(member, kind); ok {
			return kind + strings.ToLower(address)
		}
	}
	return member
}

func (p policy) with(role, member string) policy {
	bindings := p.without(role, member).Bindings
	at := slices.IndexFunc(bindings, func(b binding) bool { return b.Role == role })
	if at < 0 {
		return policy{Bindings: append(bindings, binding{role, []string{member}})}
	}
	bindings[at].Members = append(bindings[at].Members, member)
	return policy{Bindings: bindings}
}

func (p policy) without(role, member string) policy {
	var left []binding
	for _, b := range p.Bindings {
		members := slices.DeleteFunc(slices.Clone(b.Members), func(m string) bool { return b.Role == role && m == member })
		if len(members) > 0 {
			left = append(left, binding{b.Role, members})
		}
	}
	return policy{Bindings: left}
}

// wire is the policy as JSON, with its etag.
func (p policy) wire() policy {
	sum := sha256.Sum256(fmt.Append(nil, p.Bindings))
	return policy{Version: 1, ETag: base64.URLEncoding.EncodeToString(sum[:8]), Bindings: p.Bindings}
}

// pairs are the roles and members of a policy.
func (p policy) pairs() map[[2]string]bool {
	pairs := map[[2]string]bool{}
	for _, b := range p.Bindings {
		for _, member := range b.Members {
			pairs[[2]string{b.Role, normal(member)}] = true
		}
	}
	return pairs
}

// set is a policy that the operator wants instead of the present one.
func (s *Server) set(resource string, present, wanted policy) (policy, error) {
	// gcloud decodes the etag, and encodes it in base64's alphabet for URLs.
	alphabet := strings.NewReplacer("-", "+", "_", "/")
	if wanted.ETag != "" && alphabet.Replace(wanted.ETag) != alphabet.Replace(present.ETag) {
		return policy{}, refuse(http.StatusConflict, "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.")
	}
	for _, b := range wanted.Bindings {
		for _, member := range b.Members {
			if err := s.google.CheckMember(member); err != nil {
				return policy{}, err
			}
			if !strings.HasPrefix(b.Role, "roles/") {
				return policy{}, refuse(http.StatusBadRequest, "Invalid role: %s", b.Role)
			}
		}
	}
	before, after := present.pairs(), wanted.pairs()
	for pair := range before {
		if !after[pair] {
			s.Unbind(resource, pair[0], pair[1])
		}
	}
	for _, b := range wanted.Bindings { // in their order
		for _, member := range b.Members {
			if !before[[2]string{b.Role, normal(member)}] {
				if err := s.bind(resource, b.Role, member); err != nil {
					return policy{}, err
				}
			}
		}
	}
	return policy{Bindings: wanted.Bindings}.wire(), nil
}

// setRequest is that of a setIamPolicy.
type setRequest struct {
	Policy     policy `json:"policy"`
	UpdateMask string `json:"updateMask"`
}

func (s *Server) policy(resource string) policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policies[resource]
}

// policyCall answers getIamPolicy and setIamPolicy for resources whose policies are here.
func (s *Server) policyCall(c *call, resource, verb string) (any, error) {
	switch verb {
	case "getIamPolicy":
		return s.policy(resource).wire(), nil
	case "setIamPolicy":
		var request setRequest
		if err := c.decode(&request); err != nil {
			return nil, err
		}
		return s.set(resource, s.policy(resource).wire(), request.Policy)
	}
	return nil, refuse(http.StatusNotFound, "Method not found.")
}
