// Package standin has what the stand-ins for Google's services share: they take the
// tokens of fakegoogle, and remember their requests.
//
// It answers one question: which principal sent a request? It must not know what the
// request is for.
package standin
