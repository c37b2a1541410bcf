{{- /* Names and labels of every object come from here. */ -}}

{{- define "binderhub-ext.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "binderhub-ext.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "binderhub-ext.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "binderhub-ext.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "binderhub-ext.watchdog.fullname" -}}
{{- include "binderhub-ext.fullname" . }}-watchdog
{{- end -}}

{{- define "binderhub-ext.alerts.fullname" -}}
{{- include "binderhub-ext.fullname" . }}-alerts
{{- end -}}

{{- define "binderhub-ext.dashboard.fullname" -}}
{{- include "binderhub-ext.fullname" . }}-dashboard
{{- end -}}

{{- define "binderhub-ext.binder.fullname" -}}
{{- include "binderhub-ext.fullname" . }}-binder
{{- end -}}

{{- define "binderhub-ext.hub.fullname" -}}
{{- include "binderhub-ext.fullname" . }}-hub
{{- end -}}

{{- define "binderhub-ext.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "binderhub-ext.watchdog.fullname" .) -}}
{{- end -}}

{{- define "binderhub-ext.labels" -}}
{{ include "binderhub-ext.commonLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "binderhub-ext.commonLabels" -}}
app.kubernetes.io/name: {{ include "binderhub-ext.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "binderhub-ext.watchdog.matchLabels" -}}
{{ include "binderhub-ext.commonLabels" . }}
app.kubernetes.io/component: watchdog
{{- end -}}

{{- /* A map of labels as a selector's text: a=b,c=d */ -}}
{{- define "binderhub-ext.selector" -}}
{{- $parts := list -}}
{{- range $label, $value := . -}}
{{- $parts = append $parts (printf "%s=%s" $label $value) -}}
{{- end -}}
{{- $parts | join "," -}}
{{- end -}}

{{- /* "true" when monitoring objects are wanted: true, or auto and the cluster knows their kind */ -}}
{{- define "binderhub-ext.wanted" -}}
{{- if kindIs "bool" .enabled -}}
{{- if .enabled }}true{{ end -}}
{{- else if .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
true
{{- end -}}
{{- end -}}
