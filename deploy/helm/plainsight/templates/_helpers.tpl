{{- define "plainsight.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "plainsight.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "plainsight.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "plainsight.selectorLabels" -}}
app.kubernetes.io/name: {{ include "plainsight.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "plainsight.labels" -}}
{{ include "plainsight.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "plainsight.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "plainsight.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "plainsight.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The volumes of files, each mounted below /etc/plainsight by its name. Mode 256 is 0400: the owner reads. */}}
{{- define "plainsight.files" -}}
{{- with .Values.admin.tls.secretName }}
- name: tls
  secret: {secretName: {{ . | quote }}, defaultMode: 256}
{{- end }}
{{- with .Values.admin.clientAuth.caConfigMap }}
- name: client-ca
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .Values.admin.clientAuth.tokenSecret }}
- name: token
  secret: {secretName: {{ . | quote }}, defaultMode: 256}
{{- end }}
{{- with .Values.detector.logFilterConfigMap }}
- name: log
  configMap: {name: {{ . | quote }}, optional: true}
{{- end }}
{{- end }}
