"""The fields of a DaemonSet, from the published API of Kubernetes: which there are, of what type.

Compact data, one type a paragraph:

    field:type     string int bool any time quantity intstr, a range of `RANGES`, or a type below
    field!:type    the API server refuses an object without it
    field~:type    newer than Kubernetes 1.36
    string(A|B)    one of these, or empty
    {type} [type]  a map with free keys, a list

A test walks the models of the installed `kubernetes` package and names what is missing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

Range = tuple[int, int]

RANGES: dict[str, Range] = {
    "int": (-(2**63), 2**63 - 1),
    "count": (0, 2**31 - 1),
    "positive": (1, 2**31 - 1),
    "port": (1, 65535),
    "port0": (0, 65535),
    "mode": (0, 0o777),
    "weight": (1, 100),
    "id": (0, 2**31 - 1),
}
"""Whole numbers; `port0` is a port where 0 stands for none, `mode` the bits of a file mode."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts."""

    name: str
    words: tuple[str, ...] = ()
    """The only ones that are allowed; none given: any."""


@dataclass(frozen=True, slots=True)
class MapOf:
    """Free keys, all values of one type."""

    element: Type


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, all elements of one type."""

    element: Type


@dataclass(slots=True, eq=False)
class Struct:
    """Named fields.  Filled while the table is read, because types contain one another."""

    name: str
    fields: dict[str, Type]
    required: tuple[str, ...] = ()
    newer: frozenset[str] = frozenset()
    """Fields that a Kubernetes 1.36 would refuse."""


Type = Scalar | MapOf | ListOf | Struct


@cache
def types() -> dict[str, Struct]:
    """Return all types by name."""
    rows = [paragraph.split() for paragraph in _TABLE.strip().split("\n\n")]
    known = {row[0]: Struct(row[0], {}) for row in rows}
    for row in rows:
        struct = known[row[0]]
        pairs = [word.split(":", 1) for word in row[1:]]
        struct.fields = {name.rstrip("!~"): _parsed(notation, known) for name, notation in pairs}
        struct.required = tuple(name[:-1] for name, _ in pairs if name.endswith("!"))
        struct.newer = frozenset(name[:-1] for name, _ in pairs if name.endswith("~"))
    return known


def daemonset() -> Struct:
    """Return the type of a DaemonSet."""
    return types()["DaemonSet"]


@cache
def homes() -> dict[str, tuple[str, ...]]:
    """Return field name -> names of the types that have it, for hints."""
    found: dict[str, list[str]] = {}
    for struct in types().values():
        for name in struct.fields:
            found.setdefault(name, []).append(struct.name)
    return {name: tuple(owners) for name, owners in found.items()}


def _parsed(notation: str, known: dict[str, Struct]) -> Type:
    if notation.startswith("{"):
        return MapOf(_parsed(notation[1:-1], known))
    if notation.startswith("["):
        return ListOf(_parsed(notation[1:-1], known))
    name, _, words = notation.partition("(")
    if words:
        return Scalar(name, tuple(words.rstrip(")").split("|")))
    return known[name] if name in known else Scalar(name)


_TABLE = """
DaemonSet apiVersion:string kind:string metadata:ObjectMeta spec!:DaemonSetSpec status:any

ObjectMeta annotations:{string} creationTimestamp:time deletionGracePeriodSeconds:int
  deletionTimestamp:time finalizers:[string] generateName:string generation:int labels:{string}
  managedFields:[any] name:string namespace:string ownerReferences:[OwnerReference]
  resourceVersion:string selfLink:string uid:string

DaemonSetSpec minReadySeconds:count revisionHistoryLimit:count selector!:LabelSelector
  template!:PodTemplateSpec updateStrategy:DaemonSetUpdateStrategy

OwnerReference apiVersion!:string blockOwnerDeletion:bool controller:bool kind!:string
  name!:string uid!:string

LabelSelector matchExpressions:[LabelSelectorRequirement] matchLabels:{string}

PodTemplateSpec metadata:ObjectMeta spec:PodSpec

DaemonSetUpdateStrategy rollingUpdate:RollingUpdateDaemonSet type:string(RollingUpdate|OnDelete)

LabelSelectorRequirement key!:string operator!:string(In|NotIn|Exists|DoesNotExist)
  values:[string]

PodSpec activeDeadlineSeconds:int affinity:Affinity automountServiceAccountToken:bool
  containers!:[Container] dnsConfig:PodDNSConfig
  dnsPolicy:string(ClusterFirst|ClusterFirstWithHostNet|Default|None) enableServiceLinks:bool
  ephemeralContainers:[EphemeralContainer] evictionResponders~:[EvictionResponder]
  hostAliases:[HostAlias] hostIPC:bool hostNetwork:bool hostPID:bool hostUsers:bool
  hostname:string hostnameOverride:string imagePullSecrets:[LocalObjectReference]
  initContainers:[Container] nodeName:string nodeSelector:{string} os:PodOS overhead:{quantity}
  preemptionPolicy:string(PreemptLowerPriority|Never) priority:int priorityClassName:string
  readinessGates:[PodReadinessGate] resourceClaims:[PodResourceClaim]
  resources:ResourceRequirements restartPolicy:string runtimeClassName:string schedulerName:string
  schedulingGates:[PodSchedulingGate] schedulingGroup:PodSchedulingGroup
  securityContext:PodSecurityContext serviceAccount:string serviceAccountName:string
  setHostnameAsFQDN:bool shareProcessNamespace:bool subdomain:string
  terminationGracePeriodSeconds:count tolerations:[Toleration]
  topologySpreadConstraints:[TopologySpreadConstraint] volumes:[Volume]

RollingUpdateDaemonSet maxSurge:intstr maxUnavailable:intstr

Affinity nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAntiAffinity

Container args:[string] command:[string] env:[EnvVar] envFrom:[EnvFromSource] image:string
  imagePullPolicy:string(Always|Never|IfNotPresent) lifecycle:Lifecycle livenessProbe:Probe
  name!:string ports:[ContainerPort] readinessProbe:Probe resizePolicy:[ContainerResizePolicy]
  resources:ResourceRequirements restartPolicy:string restartPolicyRules:[ContainerRestartRule]
  securityContext:SecurityContext startupProbe:Probe stdin:bool stdinOnce:bool
  terminationMessagePath:string terminationMessagePolicy:string(File|FallbackToLogsOnError)
  tty:bool volumeDevices:[VolumeDevice] volumeMounts:[VolumeMount] workingDir:string

PodDNSConfig nameservers:[string] options:[PodDNSConfigOption] searches:[string]

EphemeralContainer args:[string] command:[string] env:[EnvVar] envFrom:[EnvFromSource]
  image:string imagePullPolicy:string(Always|Never|IfNotPresent) lifecycle:Lifecycle
  livenessProbe:Probe name!:string ports:[ContainerPort] readinessProbe:Probe
  resizePolicy:[ContainerResizePolicy] resources:ResourceRequirements restartPolicy:string
  restartPolicyRules:[ContainerRestartRule] securityContext:SecurityContext startupProbe:Probe
  stdin:bool stdinOnce:bool targetContainerName:string terminationMessagePath:string
  terminationMessagePolicy:string(File|FallbackToLogsOnError) tty:bool
  volumeDevices:[VolumeDevice] volumeMounts:[VolumeMount] workingDir:string

EvictionResponder name!:string priority!:int

HostAlias hostnames:[string] ip!:string

LocalObjectReference name:string

PodOS name!:string(linux|windows)

PodReadinessGate conditionType!:string

PodResourceClaim name!:string resourceClaimName:string resourceClaimTemplateName:string

ResourceRequirements claims:[ResourceClaim] limits:{quantity} requests:{quantity}

PodSchedulingGate name!:string

PodSchedulingGroup podGroupName:string

PodSecurityContext appArmorProfile:AppArmorProfile fsGroup:id
  fsGroupChangePolicy:string(Always|OnRootMismatch) runAsGroup:id runAsNonRoot:bool runAsUser:id
  seLinuxChangePolicy:string(Recursive|MountOption) seLinuxOptions:SELinuxOptions
  seccompProfile:SeccompProfile supplementalGroups:[id]
  supplementalGroupsPolicy:string(Merge|Strict) sysctls:[Sysctl]
  windowsOptions:WindowsSecurityContextOptions

Toleration effect:string(NoSchedule|PreferNoSchedule|NoExecute) key:string
  operator:string(Exists|Equal|Lt|Gt) tolerationSeconds:int value:string

TopologySpreadConstraint labelSelector:LabelSelector matchLabelKeys:[string] maxSkew!:positive
  minDomains:positive nodeAffinityPolicy:string(Honor|Ignore)
  nodeTaintsPolicy:string(Honor|Ignore) topologyKey!:string
  whenUnsatisfiable!:string(DoNotSchedule|ScheduleAnyway)

Volume awsElasticBlockStore:AWSElasticBlockStoreVolumeSource azureDisk:AzureDiskVolumeSource
  azureFile:AzureFileVolumeSource cephfs:CephFSVolumeSource cinder:CinderVolumeSource
  configMap:ConfigMapVolumeSource csi:CSIVolumeSource downwardAPI:DownwardAPIVolumeSource
  emptyDir:EmptyDirVolumeSource ephemeral:EphemeralVolumeSource fc:FCVolumeSource
  flexVolume:FlexVolumeSource flocker:FlockerVolumeSource
  gcePersistentDisk:GCEPersistentDiskVolumeSource gitRepo:GitRepoVolumeSource
  glusterfs:GlusterfsVolumeSource hostPath:HostPathVolumeSource image:ImageVolumeSource
  iscsi:ISCSIVolumeSource name!:string nfs:NFSVolumeSource
  persistentVolumeClaim:PersistentVolumeClaimVolumeSource
  photonPersistentDisk:PhotonPersistentDiskVolumeSource portworxVolume:PortworxVolumeSource
  projected:ProjectedVolumeSource quobyte:QuobyteVolumeSource rbd:RBDVolumeSource
  scaleIO:ScaleIOVolumeSource secret:SecretVolumeSource storageos:StorageOSVolumeSource
  vsphereVolume:VsphereVirtualDiskVolumeSource

NodeAffinity preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
  requiredDuringSchedulingIgnoredDuringExecution:NodeSelector

PodAffinity preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
  requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]

PodAntiAffinity preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
  requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]

EnvVar name!:string value:string valueFrom:EnvVarSource

EnvFromSource configMapRef:ConfigMapEnvSource prefix:string secretRef:SecretEnvSource

Lifecycle postStart:LifecycleHandler preStop:LifecycleHandler stopSignal:string

Probe exec:ExecAction failureThreshold:count grpc:GRPCAction httpGet:HTTPGetAction
  initialDelaySeconds:count periodSeconds:count successThreshold:count tcpSocket:TCPSocketAction
  terminationGracePeriodSeconds:positive timeoutSeconds:count

ContainerPort containerPort!:port hostIP:string hostPort:port0 name:string
  protocol:string(TCP|UDP|SCTP)

ContainerResizePolicy resourceName!:string restartPolicy!:string

ContainerRestartRule action!:string exitCodes:ContainerRestartRuleOnExitCodes

SecurityContext allowPrivilegeEscalation:bool appArmorProfile:AppArmorProfile
  capabilities:Capabilities privileged:bool procMount:string(Default|Unmasked)
  readOnlyRootFilesystem:bool runAsGroup:id runAsNonRoot:bool runAsUser:id
  seLinuxOptions:SELinuxOptions seccompProfile:SeccompProfile
  windowsOptions:WindowsSecurityContextOptions

VolumeDevice devicePath!:string name!:string

VolumeMount bindMountOptions~:[string] mountPath!:string
  mountPropagation:string(None|HostToContainer|Bidirectional) name!:string readOnly:bool
  recursiveReadOnly:string(Disabled|IfPossible|Enabled) subPath:string subPathExpr:string

PodDNSConfigOption name:string value:string

ResourceClaim name!:string request:string

AppArmorProfile localhostProfile:string type!:string(RuntimeDefault|Unconfined|Localhost)

SELinuxOptions level:string role:string type:string user:string

SeccompProfile localhostProfile:string type!:string(RuntimeDefault|Unconfined|Localhost)

Sysctl name!:string value:string

WindowsSecurityContextOptions gmsaCredentialSpec:string gmsaCredentialSpecName:string
  hostProcess:bool runAsUserName:string

AWSElasticBlockStoreVolumeSource fsType:string partition:int readOnly:bool volumeID!:string

AzureDiskVolumeSource cachingMode:string diskName!:string diskURI!:string fsType:string
  kind:string readOnly:bool

AzureFileVolumeSource readOnly:bool secretName!:string shareName!:string

CephFSVolumeSource monitors!:[string] path:string readOnly:bool secretFile:string
  secretRef:LocalObjectReference user:string

CinderVolumeSource fsType:string readOnly:bool secretRef:LocalObjectReference volumeID!:string

ConfigMapVolumeSource defaultMode:mode defaultUser~:int items:[KeyToPath] name:string
  optional:bool

CSIVolumeSource driver!:string fsType:string nodePublishSecretRef:LocalObjectReference
  readOnly:bool volumeAttributes:{string}

DownwardAPIVolumeSource defaultMode:mode defaultUser~:int items:[DownwardAPIVolumeFile]

EmptyDirVolumeSource medium:string mode~:mode sizeLimit:quantity

EphemeralVolumeSource volumeClaimTemplate:PersistentVolumeClaimTemplate

FCVolumeSource fsType:string lun:int readOnly:bool targetWWNs:[string] wwids:[string]

FlexVolumeSource driver!:string fsType:string options:{string} readOnly:bool
  secretRef:LocalObjectReference

FlockerVolumeSource datasetName:string datasetUUID:string

GCEPersistentDiskVolumeSource fsType:string partition:int pdName!:string readOnly:bool

GitRepoVolumeSource directory:string repository!:string revision:string

GlusterfsVolumeSource endpoints!:string path!:string readOnly:bool

HostPathVolumeSource path!:string
  type:string(DirectoryOrCreate|Directory|FileOrCreate|File|Socket|CharDevice|BlockDevice)

ImageVolumeSource pullPolicy:string(Always|Never|IfNotPresent) reference:string

ISCSIVolumeSource chapAuthDiscovery:bool chapAuthSession:bool fsType:string initiatorName:string
  iqn!:string iscsiInterface:string lun!:int portals:[string] readOnly:bool
  secretRef:LocalObjectReference targetPortal!:string

NFSVolumeSource path!:string readOnly:bool server!:string

PersistentVolumeClaimVolumeSource claimName!:string readOnly:bool

PhotonPersistentDiskVolumeSource fsType:string pdID!:string

PortworxVolumeSource fsType:string readOnly:bool volumeID!:string

ProjectedVolumeSource defaultMode:mode defaultUser~:int sources:[VolumeProjection]

QuobyteVolumeSource group:string readOnly:bool registry!:string tenant:string user:string
  volume!:string

RBDVolumeSource fsType:string image!:string keyring:string monitors!:[string] pool:string
  readOnly:bool secretRef:LocalObjectReference user:string

ScaleIOVolumeSource fsType:string gateway!:string protectionDomain:string readOnly:bool
  secretRef!:LocalObjectReference sslEnabled:bool storageMode:string storagePool:string
  system!:string volumeName:string

SecretVolumeSource defaultMode:mode defaultUser~:int items:[KeyToPath] optional:bool
  secretName:string

StorageOSVolumeSource fsType:string readOnly:bool secretRef:LocalObjectReference volumeName:string
  volumeNamespace:string

VsphereVirtualDiskVolumeSource fsType:string storagePolicyID:string storagePolicyName:string
  volumePath!:string

PreferredSchedulingTerm preference!:NodeSelectorTerm weight!:weight

NodeSelector nodeSelectorTerms!:[NodeSelectorTerm]

WeightedPodAffinityTerm podAffinityTerm!:PodAffinityTerm weight!:weight

PodAffinityTerm labelSelector:LabelSelector matchLabelKeys:[string] mismatchLabelKeys:[string]
  namespaceSelector:LabelSelector namespaces:[string] topologyKey!:string

EnvVarSource configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector
  fileKeyRef:FileKeySelector resourceFieldRef:ResourceFieldSelector secretKeyRef:SecretKeySelector

ConfigMapEnvSource name:string optional:bool

SecretEnvSource name:string optional:bool

LifecycleHandler exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction tcpSocket:TCPSocketAction

ExecAction command:[string]

GRPCAction mode~:string port!:port service:string

HTTPGetAction host:string httpHeaders:[HTTPHeader] path:string port!:portref protocol~:string
  scheme:string(HTTP|HTTPS)

TCPSocketAction host:string port!:portref

ContainerRestartRuleOnExitCodes operator!:string values:[int]

Capabilities add:[string] drop:[string]

KeyToPath key!:string mode:mode path!:string user~:int

DownwardAPIVolumeFile fieldRef:ObjectFieldSelector mode:mode path!:string
  resourceFieldRef:ResourceFieldSelector user~:int

PersistentVolumeClaimTemplate metadata:ObjectMeta spec!:PersistentVolumeClaimSpec

VolumeProjection clusterTrustBundle:ClusterTrustBundleProjection configMap:ConfigMapProjection
  downwardAPI:DownwardAPIProjection podCertificate:PodCertificateProjection
  secret:SecretProjection serviceAccountToken:ServiceAccountTokenProjection

NodeSelectorTerm matchExpressions:[NodeSelectorRequirement] matchFields:[NodeSelectorRequirement]

ConfigMapKeySelector key!:string name:string optional:bool

ObjectFieldSelector apiVersion:string fieldPath!:string

FileKeySelector key!:string optional:bool path!:string volumeName!:string

ResourceFieldSelector containerName:string divisor:quantity resource!:string

SecretKeySelector key!:string name:string optional:bool

SleepAction seconds!:count

HTTPHeader name!:string value:string

PersistentVolumeClaimSpec accessModes:[string] dataSource:TypedLocalObjectReference
  dataSourceRef:TypedObjectReference resources:VolumeResourceRequirements selector:LabelSelector
  storageClassName:string volumeAttributesClassName:string volumeMode:string volumeName:string

ClusterTrustBundleProjection labelSelector:LabelSelector name:string optional:bool path!:string
  signerName:string user~:int

ConfigMapProjection items:[KeyToPath] name:string optional:bool

DownwardAPIProjection items:[DownwardAPIVolumeFile]

PodCertificateProjection certificateChainPath:string credentialBundlePath:string keyPath:string
  keyType!:string maxExpirationSeconds:int signerName!:string user~:int userAnnotations:{string}

SecretProjection items:[KeyToPath] name:string optional:bool

ServiceAccountTokenProjection audience:string expirationSeconds:int path!:string user~:int

NodeSelectorRequirement key!:string operator!:string(In|NotIn|Exists|DoesNotExist|Gt|Lt)
  values:[string]

TypedLocalObjectReference apiGroup:string kind!:string name!:string

TypedObjectReference apiGroup:string kind!:string name!:string namespace:string

VolumeResourceRequirements limits:{quantity} requests:{quantity}
"""
