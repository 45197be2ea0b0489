{{- define "txnscope.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "txnscope.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "txnscope.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "txnscope.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "txnscope.selectorLabels" -}}
app.kubernetes.io/name: {{ include "txnscope.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "txnscope.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "txnscope.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
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
