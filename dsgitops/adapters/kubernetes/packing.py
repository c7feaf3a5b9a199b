"""Small objects in little memory: JSON, deflated with the words that every DaemonSet has.

A dictionary of usual words halves what plain deflate leaves of objects of a few KiB.  It is only
ever used within one process, so it may change freely.
"""

from __future__ import annotations

import zlib

_LEVEL = 1
"""Higher ones take twice the time for 3 % less."""

_WORDS = (
    b'{"f:annotations":{".":{},"f:deprecated.daemonset.template.generation":{},'
    b'"f:dsgitops.io/record":{},"f:kubernetes.io/change-cause":{}},"f:labels":{".":{},"f:app":{},'
    b'"f:app.kubernetes.io/managed-by":{},"f:app.kubernetes.io/name":{}}},"f:spec":{'
    b'"f:minReadySeconds":{},"f:revisionHistoryLimit":{},"f:selector":{},"f:template":{'
    b'"f:metadata":{"f:labels":{"f:k8s-app":{}}},"f:spec":{"f:containers":{"k:{\\"name\\":\\"":{'
    b'".":{},"f:args":{},"f:command":{},"f:env":{"k:{\\"name\\":\\"":{".":{},"f:name":{},'
    b'"f:value":{},"f:valueFrom":{"f:fieldRef":{}}}},"f:image":{},"f:imagePullPolicy":{},'
    b'"f:livenessProbe":{"f:failureThreshold":{},"f:httpGet":{"f:path":{},"f:port":{},'
    b'"f:scheme":{}},"f:initialDelaySeconds":{},"f:periodSeconds":{},"f:successThreshold":{},'
    b'"f:timeoutSeconds":{}},"f:ports":{"k:{\\"containerPort\\":":{"f:containerPort":{},'
    b'"f:protocol":{}}},"f:readinessProbe":{},"f:resources":{"f:limits":{"f:memory":{}},'
    b'"f:requests":{"f:cpu":{},"f:memory":{}}},"f:securityContext":{},"f:terminationMessagePath":{},'
    b'"f:terminationMessagePolicy":{},"f:volumeMounts":{"k:{\\"mountPath\\":\\"":{".":{},'
    b'"f:mountPath":{},"f:name":{},"f:readOnly":{}}}}},"f:dnsPolicy":{},"f:hostNetwork":{},'
    b'"f:nodeSelector":{},"f:restartPolicy":{},"f:schedulerName":{},"f:serviceAccountName":{},'
    b'"f:terminationGracePeriodSeconds":{},"f:tolerations":{},"f:volumes":{"k:{\\"name\\":\\"":{'
    b'".":{},"f:configMap":{"f:name":{}},"f:hostPath":{"f:path":{},"f:type":{}}}}}},'
    b'"f:updateStrategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},'
    b'"f:type":{}}}}},{"manager":"kube-controller-manager","operation":"Update","apiVersion":'
    b'"apps/v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{'
    b'"f:currentNumberScheduled":{},"f:desiredNumberScheduled":{},"f:numberAvailable":{},'
    b'"f:numberReady":{},"f:observedGeneration":{},"f:updatedNumberScheduled":{}}},"subresource":'
    b'"status"},{"manager":"dsgitops","operation":"Apply"}]'
    b'{"kind":"ControllerRevision","apiVersion":"apps/v1","metadata":{"name":"","namespace":'
    b'"kube-system","uid":"","resourceVersion":"","generation":1,"creationTimestamp":"2026-","labels":'
    b'{"app":"","app.kubernetes.io/name":"","controller-revision-hash":""},"annotations":{'
    b'"deprecated.daemonset.template.generation":"1","dsgitops.io/record":"{\\"commit\\":\\"main@sha1:'
    b'\\",\\"digest\\":\\"sha256:\\",\\"lastGood\\":{\\"at\\":\\"2026-\\",\\"commit\\":\\"main@sha1:\\",'
    b'\\"digest\\":\\"sha256:\\",\\"hash\\":\\"\\",\\"minReadySeconds\\":0,\\"revision\\":\\"\\",\\"strategy'
    b'\\":{\\"rollingUpdate\\":{\\"maxSurge\\":0,\\"maxUnavailable\\":1},\\"type\\":\\"RollingUpdate\\"},'
    b'\\"template\\":\\"sha256:\\"},\\"n\\":1,\\"path\\":\\"clusters/prod/\\",\\"phase\\":\\"Idle\\",'
    b'\\"reason\\":\\"InSync\\",\\"source\\":\\"\\",\\"template\\":\\"sha256:\\",\\"uid\\":\\"\\",\\"v\\":1}",'
    b'"kubernetes.io/change-cause":"main@sha1:"},"ownerReferences":[{"apiVersion":"apps/v1",'
    b'"kind":"DaemonSet","name":"","uid":"","controller":true,"blockOwnerDeletion":true}],'
    b'"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":'
    b'"apps/v1","time":"2026-","fieldsType":"FieldsV1","fieldsV1":{"f:data":{},"f:metadata":{'
    b'"f:annotations":{},"f:labels":{},"f:ownerReferences":{".":{},"k:{\\"uid\\":\\"\\"}":{}}},'
    b'"f:revision":{}}}]},"data":{"spec":{"template":{"$patch":"replace","metadata":{"labels":{}},'
    b'"spec":{"containers":[{"args":[""],"command":[""],"env":[{"name":"NODE_NAME","valueFrom":{'
    b'"fieldRef":{"apiVersion":"v1","fieldPath":"spec.nodeName"}}},{"name":"","value":""}],"image":'
    b'"registry.k8s.io/","imagePullPolicy":"IfNotPresent","livenessProbe":{"failureThreshold":3,'
    b'"httpGet":{"path":"/healthz","port":8080,"scheme":"HTTP"},"initialDelaySeconds":10,'
    b'"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"name":"","ports":[{'
    b'"containerPort":8080,"hostPort":8080,"name":"http","protocol":"TCP"}],"readinessProbe":{'
    b'"failureThreshold":3,"tcpSocket":{"port":""},"exec":{"command":[""]}},"resources":{"limits":{'
    b'"cpu":"100m","memory":"128Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},"securityContext":{'
    b'"allowPrivilegeEscalation":false,"capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]},'
    b'"privileged":true,"readOnlyRootFilesystem":true,"runAsUser":0},"terminationMessagePath":'
    b'"/dev/termination-log","terminationMessagePolicy":"File","volumeMounts":[{"mountPath":'
    b'"/var/log","mountPropagation":"Bidirectional","name":"varlog","readOnly":true}]}],"dnsPolicy":'
    b'"ClusterFirst","hostNetwork":true,"hostPID":true,"initContainers":[{}],"nodeSelector":{'
    b'"kubernetes.io/os":"linux"},"priorityClassName":"system-node-critical","restartPolicy":'
    b'"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"",'
    b'"serviceAccountName":"","terminationGracePeriodSeconds":30,"tolerations":[{"effect":'
    b'"NoSchedule","key":"node-role.kubernetes.io/control-plane","operator":"Exists"}],"volumes":[{'
    b'"configMap":{"defaultMode":420,"name":""},"name":""},{"hostPath":{"path":"/var/lib/docker/'
    b'containers","type":""},"name":""}]}}}},"revision":1}{"kind":"DaemonSet","spec":{"selector":{'
    b'"matchLabels":{}},"template":{},"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{'
    b'"maxUnavailable":1,"maxSurge":0}},"revisionHistoryLimit":10},"status":{'
    b'"currentNumberScheduled":3,"numberMisscheduled":0,"desiredNumberScheduled":3,"numberReady":3,'
    b'"observedGeneration":1,"updatedNumberScheduled":3,"numberAvailable":3}}'
)


def pack(body: bytes) -> bytes:
    """Return an object's JSON deflated."""
    deflate = zlib.compressobj(_LEVEL, zdict=_WORDS)
    return deflate.compress(body) + deflate.flush()


def unpack(packed: bytes) -> bytes:
    """Return what `pack` was given."""
    return zlib.decompressobj(zdict=_WORDS).decompress(packed)
