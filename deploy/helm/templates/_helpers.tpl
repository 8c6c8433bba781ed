{{/* A cluster can have only one installation, because a node has only one metadata address: names do not depend on the release's name. */}}
{{- define "name" -}}gke-metadata-emulator{{- end }}

{{- define "configMap" -}}
{{ .Values.existingConfigMap | default (include "name" .) }}
{{- end }}

{{- define "image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else if or .tag (ne $.Chart.AppVersion "latest") }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- else }}{{ .repository }}
{{- end }}
{{- end }}
{{- end }}

{{/* A setting as text. Numbers are integers; YAML can turn a long one into floating point (1.23e+11). */}}
{{- define "text" -}}
{{- if or (kindIs "float64" .) (typeIs "json.Number" .) }}{{ toString . | float64 | printf "%.0f" }}
{{- else if not (kindIs "invalid" .) }}{{ toString . }}
{{- end }}
{{- end }}

{{/* The settings as environment variables of the daemon. */}}
{{- define "environment" -}}
{{- $set := dict }}
{{- range $flag, $value := .Values.settings }}
{{- $text := include "text" $value }}
{{- if $text }}
{{- $_ := set $set (printf "GME_%s" ($flag | snakecase | upper)) $text }}
{{- end }}
{{- end }}
{{- if .Values.sourceCredentials.secretName }}
{{- $_ := set $set "GME_SOURCE_CREDENTIALS" (printf "/credentials/%s" .Values.sourceCredentials.key) }}
{{- end }}
{{- if .Values.attributes }}
{{- $_ := set $set "GME_ATTRIBUTES_FILE" "/files/attributes.yaml" }}
{{- end }}
{{- if .Values.policy }}
{{- $_ := set $set "GME_POLICY_FILE" "/files/policy.yaml" }}
{{- end }}
{{- toYaml $set }}
{{- end }}

{{/* The default of cleanup --handover-file. */}}
{{- define "handoverFolder" -}}/run/gke-metadata-emulator{{- end }}

{{/* With impersonation, Google never sees the KSAs: the daemon requests no KSA tokens. */}}
{{- define "requestsTokens" -}}
{{- if ne .Values.settings.credentials "impersonation" }}yes{{ end }}
{{- end }}

{{- define "writesEvents" -}}
{{- if ne (toString .Values.settings.events) "false" }}yes{{ end }}
{{- end }}

{{/*
The default audience of a workload identity provider is its full name with https: before it.
The name is quoted separately, which allows kustomize to replace it. The audience of a fleet's
membership is the workload pool.
*/}}
{{- define "audiences" -}}
{{- $provider := .Values.settings.workloadIdentityProvider }}
{{- if and (not $provider) (eq .Values.settings.credentials "fake") }}
{{- $provider = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo-provider" }}
{{- end }}
{{- $all := list }}
{{- if hasPrefix "projects/" $provider }}{{ $provider = print "//iam.googleapis.com/" $provider }}{{ end }}
{{- if hasPrefix "https:" $provider }}
{{- $dotted := .Values.settings.projectId | splitList ":" | reverse | join "." }}
{{- $all = append $all (printf "'%s'" (.Values.settings.workloadPool | default (print $dotted ".svc.id.goog"))) }}
{{- else if $provider }}
{{- $all = append $all (printf "'https:' + '%s'" $provider) }}
{{- end }}
{{- range .Values.admission.audiences }}{{ $all = append $all (printf "'%s'" .) }}{{ end }}
{{- $all | join ", " }}
{{- end }}

{{- define "quoted" -}}
{{- range $i, $text := . }}{{ if $i }}, {{ end }}'{{ $text }}'{{ end }}
{{- end }}

{{/* Capabilities and host folders for the routing and attestation modes, from modes.yaml; the result is YAML. */}}
{{- define "needs" -}}
{{- $table := .Files.Get "modes.yaml" | fromYaml }}
{{- $needs := dict "capabilities" list "read" list "write" list "onNode" false }}
{{- range $setting, $usual := dict "routing" "address" "attestation" "prefer" }}
{{- $known := get $table $setting }}
{{- $mode := get $.Values.settings $setting | default $usual }}
{{- if not (hasKey $known $mode) }}{{ fail (printf "settings.%s: %q is not supported by the chart; use one of %s" $setting $mode (keys $known | sortAlpha | join ", ")) }}{{ end }}
{{- $requirements := get $known $mode | default dict }}
{{- range $what := list "capabilities" "read" "write" }}
{{- $_ := set $needs $what (concat (get $needs $what) (get $requirements $what | default list) | uniq | sortAlpha) }}
{{- end }}
{{- if get $requirements "onNode" }}{{ $_ := set $needs "onNode" true }}{{ end }}
{{- end }}
{{- toYaml $needs }}
{{- end }}

{{/* Host and port of the kubelet's health probes: the daemon is on the node's network. */}}
{{- define "probed" -}}
{{- $listen := .Values.settings.adminListen | default "127.0.0.1:8989" }}
{{- $port := regexFind "[0-9]+$" $listen }}
{{- $host := trimSuffix (printf ":%s" $port) $listen | trimAll "[]" }}
{{- if has $host (list "0.0.0.0" "::") }}{{ $host = "127.0.0.1" }}{{ end }}
{{- printf "host: %q, port: %s" $host $port }}
{{- end }}
