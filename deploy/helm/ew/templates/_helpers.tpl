{{- define "ew.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end }}

{{- define "ew.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "ew.labels" -}}
{{ include "ew.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "ew.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "ew.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ew.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "ew.passwordSecret" -}}
{{ .Values.valkey.passwordSecret | default (printf "%s-valkey" (include "ew.name" .)) }}
{{- end }}

{{- /* Where Redis is. `$(...)` is put in by Kubernetes. */ -}}
{{- define "ew.env" -}}
- name: EW_HOST_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- if .Values.valkey.enabled }}
- name: VALKEY_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "ew.passwordSecret" . }}, key: password}}
- name: EW_REDIS__URL
  value: redis://:$(VALKEY_PASSWORD)@{{ include "ew.name" . }}-valkey:6379/0
{{- else }}
- name: EW_REDIS__URL
  valueFrom:
    secretKeyRef:
      name: {{ required "without `valkey.enabled`, `redis.urlSecret` must name a Secret with the address of a Redis" .Values.redis.urlSecret }}
      key: {{ .Values.redis.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* config.json: the values', with what the chart knows. */ -}}
{{- define "ew.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $gateway := dict "host" "0.0.0.0" "port" 8080 "admin_host" "0.0.0.0" "admin_port" 9090 -}}
{{- $_ := set $config "gateway" (merge $gateway (get $config "gateway" | default dict)) -}}
{{- if gt (int .Values.gateway.replicas) 1 -}}
{{- $source := printf "%s-gateway-0" (include "ew.name" .) -}}
{{- $_ := set $config "keys" (dict "source" $source "secret_file" "/etc/ew-keys/secret") -}}
{{- end -}}
{{ toPrettyJson $config }}
{{- end }}

{{- /* Names, and Valkey. */ -}}
{{- define "ew.usualEgress" }}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- if .Values.valkey.enabled }}
- to:
    - podSelector:
        matchLabels: {{- include "ew.selector" (dict "root" . "part" "valkey") | nindent 10 }}
  ports: [{port: 6379}]
{{- end }}
{{- end }}
