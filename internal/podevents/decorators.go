package podevents

import (
	"context"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// Tokens returns source, with an event about each error that its owner has to fix.
func (n *Notifier) Tokens(source tokens.Source) tokens.Source {
	return eventingTokens{source, n.eventNotifier}
}

// Identity returns identities, with an event about each annotation whose value is
// invalid.
func (n *Notifier) Identity(identities server.Identity) server.Identity {
	return eventingIdentity{identities, n.eventNotifier}
}

type eventingTokens struct {
	tokens.Source
	events *eventNotifier
}

// AccessToken implements [tokens.Source].
func (t eventingTokens) AccessToken(ctx context.Context, w identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	token, err := t.Source.AccessToken(ctx, w, scopes)
	if err != nil {
		t.events.tokenError(ctx, w.Pod, err)
	}
	return token, err
}

// IDToken implements [tokens.Source].
func (t eventingTokens) IDToken(ctx context.Context, w identity.Workload, request tokens.IDTokenRequest) (tokens.Token, error) {
	token, err := t.Source.IDToken(ctx, w, request)
	if err != nil {
		t.events.tokenError(ctx, w.Pod, err)
	}
	return token, err
}

type eventingIdentity struct {
	server.Identity
	events *eventNotifier
}

// Workload implements [server.Identity].
func (i eventingIdentity) Workload(ctx context.Context, pod identity.Pod) (identity.Workload, error) {
	w, err := i.Identity.Workload(ctx, pod)
	switch {
	case err != nil:
		i.events.identityError(pod, err)
	case w.Warning != "":
		i.events.notify(pod, eventType{reason: badAnnotation}, w.Warning, "")
	}
	return w, err
}
