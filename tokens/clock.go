package tokens

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// here says when something ends by this machine's clock, of which the answer's sender
// says when it ends by its own. The two may be minutes apart, and what is told to
// callers is how long a token lasts from now.
func here(expiry time.Time, answer http.Header, now time.Time) time.Time {
	sent, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return expiry
	}
	if skew := sent.Sub(now); skew.Abs() > 2*time.Second { // Date has whole seconds
		return expiry.Add(-skew)
	}
	return expiry
}

// claims are those of a JWT that we read.
type claims struct {
	Subject  string `json:"sub"`
	Expiry   int64  `json:"exp"`
	IssuedAt int64  `json:"iat"`
	ID       string `json:"jti"`
}

func (c claims) life() time.Duration { return time.Duration(c.Expiry-c.IssuedAt) * time.Second }

// claimsOf reads a JWT that came from who signed it, over TLS, so that its signature
// need not be verified here.
func claimsOf(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, fmt.Errorf("%d parts instead of 3", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, fmt.Errorf("payload: %w", err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return claims{}, fmt.Errorf("claims: %w", err)
	}
	if c.Expiry == 0 {
		return claims{}, fmt.Errorf("no exp claim")
	}
	return c, nil
}
