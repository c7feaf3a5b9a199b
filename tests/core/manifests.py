"""A sound DaemonSet for tests to spoil."""

from __future__ import annotations

SOUND = """\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: agent
  namespace: logging
  labels:
    app: agent
  annotations:
    example.com/owner: platform
spec:
  minReadySeconds: 5
  revisionHistoryLimit: 10
  selector:
    matchLabels:
      app: agent
  updateStrategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 1
      maxSurge: 0
  template:
    metadata:
      labels:
        app: agent
    spec:
      serviceAccountName: agent
      restartPolicy: Always
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - key: node-role.kubernetes.io/control-plane
          operator: Exists
          effect: NoSchedule
      initContainers:
        - name: prepare
          image: registry.example.com/agent:1.4.2
          command: [prepare]
      containers:
        - name: agent
          image: registry.example.com/agent:1.4.2
          env:
            - name: LEVEL
              value: info
            - name: NODE
              valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
          ports:
            - name: http
              containerPort: 8080
          readinessProbe:
            httpGet:
              path: /ready
              port: http
          livenessProbe:
            tcpSocket:
              port: 8080
          resources:
            requests: {cpu: 100m, memory: 64Mi}
            limits: {memory: 128Mi}
          volumeMounts:
            - name: logs
              mountPath: /var/log
            - name: config
              mountPath: /etc/agent
      volumes:
        - name: logs
          hostPath: {path: /var/log}
        - name: config
          configMap: {name: agent, defaultMode: 420}
"""


def spoilt(*edits: tuple[str, str]) -> str:
    """Return the sound manifest with pieces of text replaced, each of them exactly once."""
    text = SOUND
    for before, after in edits:
        assert text.count(before) == 1, f"{before!r} is there {text.count(before)} times"
        text = text.replace(before, after)
    return text


def named(name: str, namespace: str = "logging") -> str:
    """Return the sound manifest under another name."""
    return spoilt(
        ("  name: agent\n  namespace: logging", f"  name: {name}\n  namespace: {namespace}")
    )
