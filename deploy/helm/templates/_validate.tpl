{{/*
Rules that values.schema.json cannot express, each with its remedy. The result is empty. In
helm lint, fail does not end the template, so the chart's own defaults pass.
*/}}
{{- define "validate" -}}
{{- $s := .Values.settings }}
{{- $credentials := $s.credentials | default "federation" }}
{{- $impersonation := eq $credentials "impersonation" }}
{{- $fake := eq $credentials "fake" }}

{{/* Flags that the chart sets. deploy/helm/test keeps the list complete. */}}
{{- $elsewhere := dict
  "nodeName" "leave it out: the pod sets it"
  "kubeconfig" "leave it out: the daemon uses its own service account"
  "startupTaint" "set startupTaint.enabled and startupTaint.key"
  "sourceCredentials" "set sourceCredentials.secretName and sourceCredentials.key"
  "attributesFile" "set attributes to the content of the file"
  "policyFile" "set policy to the content of the file"
  "dmiProductName" "set dmi.enabled and dmi.productName"
  "dmiOriginal" "set dmi.enabled"
  "handoverFile" "set handover.enabled"
  "handoverKeyFile" "set handover.enabled and handover.keySecret"
}}
{{- range $setting, $remedy := $elsewhere }}
{{- if hasKey $s $setting }}{{ fail (printf "settings.%s: is not a setting of the chart; %s" $setting $remedy) }}{{ end }}
{{- end }}

{{- if not (has ($s.auditLog | default "-") (list "-")) }}
{{- fail (printf "settings.auditLog: %q is a file, but the daemon's root file system is read-only; use \"-\" (standard output)" $s.auditLog) }}
{{- end }}

{{- if and (eq $credentials "federation") (not $s.workloadIdentityProvider) (or .Values.admission.enabled (not .Values.existingConfigMap)) }}
{{- fail "settings.workloadIdentityProvider: is required with settings.credentials=federation; see docs/federation.md" }}
{{- end }}

{{- if and (hasPrefix "https:" ($s.workloadIdentityProvider | default "")) (not $s.projectId) (not $s.workloadPool) .Values.admission.enabled }}
{{- fail "settings.workloadPool: is needed with a fleet's membership, whose KSA tokens have it as audience; set it to the fleet's pool, like PROJECT_ID.svc.id.goog" }}
{{- end }}

{{/* An existing ConfigMap has the other settings. */}}
{{- if not .Values.existingConfigMap }}

{{- if and (not $fake) (not $s.projectId) }}
{{- fail "settings.projectId is needed: set it to the ID of the Google project that pods see as their own (gcloud projects list)" }}
{{- end }}

{{- if and $impersonation (not $s.projectNumber) }}
{{- fail (printf "settings.projectNumber is needed with settings.credentials=impersonation: gcloud projects describe %s --format='value(projectNumber)'" $s.projectId) }}
{{- end }}
{{- if and $impersonation (not .Values.sourceCredentials.secretName) }}
{{- fail "sourceCredentials.secretName is needed with settings.credentials=impersonation: set it to the name of the Secret that contains the source credential; see docs/impersonation.md" }}
{{- end }}
{{- if and (not $impersonation) .Values.sourceCredentials.secretName }}
{{- fail (printf "sourceCredentials.secretName: is not used with settings.credentials=%s; leave it out, or set settings.credentials=impersonation" $credentials) }}
{{- end }}
{{- range list "impersonationPolicy" "delegates" }}
{{- if and (not $impersonation) (get $s .) }}
{{- fail (printf "settings.%s: is not used with settings.credentials=%s; leave it out, or set settings.credentials=impersonation" . $credentials) }}
{{- end }}
{{- end }}
{{- if and (eq ($s.impersonationPolicy | default "") "file") (not .Values.policy) }}
{{- fail "settings.impersonationPolicy: file needs rules; set policy, see docs/policy.md" }}
{{- end }}

{{- if and (not $fake) $s.fakeListen }}
{{- fail (printf "settings.fakeListen: is not used with settings.credentials=%s; leave it out, or set settings.credentials=fake" $credentials) }}
{{- end }}
{{- range list "stsEndpoint" "iamCredentialsEndpoint" "iamEndpoint" }}
{{- if and $fake (get $s .) }}
{{- fail (printf "settings.%s: contradicts settings.credentials=fake, which brings its own; leave it out" .) }}
{{- end }}
{{- end }}
{{- if and $fake .Values.handover.enabled }}
{{- fail "handover.enabled: contradicts settings.credentials=fake, whose Google forgets its tokens with the daemon; set it to false" }}
{{- end }}

{{- if and $s.listen (eq ($s.routing | default "address") "address") (ne $s.listen "169.254.169.254:80") }}
{{- fail (printf "settings.listen: %s contradicts settings.routing=address, which adds the address of 169.254.169.254:80 to the node; leave it out, or set settings.routing=none" $s.listen) }}
{{- end }}
{{- if and (has ($s.routing | default "address") (list "ebpf" "nftables")) (regexMatch "^(127\\.|0\\.0\\.0\\.0:|169\\.254\\.169\\.254:80$|\\[::1?\\]:)" ($s.listen | default "")) }}
{{- fail (printf "settings.listen: settings.routing=%s cannot redirect packets of pods to %s; leave it out, and set nodePort for another port" $s.routing $s.listen) }}
{{- end }}
{{- end }}
{{- end }}
