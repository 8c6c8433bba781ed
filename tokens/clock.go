package tokens

import (
	"net/http"
	"time"
)

// toLocalClock translates an expiry by the clock of the server that sent the response
// to this machine's clock. The two clocks can be minutes apart, and callers get the
// remaining lifetime, not the expiry. Without a Date header the expiry is unchanged.
func toLocalClock(expiry time.Time, response http.Header, now time.Time) time.Time {
	sent, err := http.ParseTime(response.Get("Date"))
	if err != nil {
		return expiry
	}
	if skew := sent.Sub(now); skew.Abs() > 2*time.Second { // Date has whole seconds
		return expiry.Add(-skew)
	}
	return expiry
}
