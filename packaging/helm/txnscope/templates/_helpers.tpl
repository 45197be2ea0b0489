{{- define "txnscope.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The name of a release can have dots and begin with a digit, that of a Service cannot. */ -}}
{{- define "txnscope.fullname" -}}
{{- $name := .Values.fullnameOverride }}
{{- if not $name }}
{{- $name = .Release.Name }}
{{- if not (contains (include "txnscope.name" .) $name) }}
{{- $name = printf "%s-%s" $name (include "txnscope.name" .) }}
{{- end }}
{{- if not (regexMatch "^[a-z]" $name) }}
{{- $name = printf "%s-%s" .Chart.Name $name }}
{{- end }}
{{- end }}
{{- $name | replace "." "-" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* A selector cannot change: these never contain a version. The name of a release can be a number. */ -}}
{{- define "txnscope.selectorLabels" -}}
app.kubernetes.io/name: {{ include "txnscope.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "txnscope.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "txnscope.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Labels of the chart, replaced by further ones: (list $ further). A key must not be in a map twice. */ -}}
{{- define "txnscope.labelsWith" -}}
{{- mergeOverwrite (include "txnscope.labels" (first .) | fromYaml) (last . | default dict | deepCopy) | toYaml }}
{{- end }}

{{- /* Those of the pod, by which it is selected: no further label replaces these. */ -}}
{{- define "txnscope.podLabels" -}}
{{- $selector := include "txnscope.selectorLabels" . | fromYaml }}
{{- mergeOverwrite (include "txnscope.labelsWith" (list . .Values.podLabels) | fromYaml) $selector | toYaml }}
{{- end }}

{{- define "txnscope.podAnnotations" -}}
{{- $own := dict }}
{{- if include "txnscope.hasFiles" . }}
{{- $_ := set $own "checksum/files" (include (print .Template.BasePath "/configmap.yaml") . | sha256sum) }}
{{- end }}
{{- if eq .Values.monitor.kind "annotations" }}
{{- $_ := set $own "prometheus.io/scrape" "true" }}
{{- $_ := set $own "prometheus.io/port" (toString .Values.service.port) }}
{{- $_ := set $own "prometheus.io/path" "/metrics" }}
{{- end }}
{{- mergeOverwrite $own (.Values.podAnnotations | default dict | deepCopy) | toYaml }}
{{- end }}

{{- /* Whether a flag or a variable names the deployment to export. */ -}}
{{- define "txnscope.hasFurtherUri" -}}
{{- range .Values.extraArgs }}{{ if hasPrefix "--mongodb.uri" . }}true{{ end }}{{ end }}
{{- range .Values.extraEnv }}{{ if has .name (list "MONGODB_URI" "TXNSCOPE_MONGODB_URI" "TXNSCOPE_MONGODB_URI_FILE") }}true{{ end }}{{ end }}
{{- end }}

{{- define "txnscope.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "txnscope.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "txnscope.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Whether there is a ConfigMap with files. */ -}}
{{- define "txnscope.hasFiles" -}}
{{- if or .Values.config .Values.checks }}true{{ end }}
{{- end }}

{{- /* The relabeling that gives all series the names that the rules expect. */ -}}
{{- define "txnscope.relabelings" -}}
- { targetLabel: job, replacement: {{ .Values.monitor.job | quote }} }
{{- with .Values.monitor.cluster }}
- { targetLabel: cluster, replacement: {{ . | quote }} }
{{- end }}
{{- with .Values.monitor.deployment }}
- { targetLabel: deployment, replacement: {{ . | quote }} }
{{- end }}
{{- end }}
