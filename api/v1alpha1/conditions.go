// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Field managers of server-side apply. Each writer owns exactly the fields that it applies (see docs/concepts/split.md).
const (
	// OperatorFieldManager is the manager under which the operator applies what it provisions and its part of a status.
	OperatorFieldManager = "vmcp-operator"
	// RuntimeFieldManager is the manager under which the runtime's StatusReporter applies its part of a status.
	RuntimeFieldManager = "vmcp-runtime"
	// ReplicasFieldManager is the manager under which the operator keeps the number of pods of a gateway or a workload when it stops
	// choosing it, until somebody else does.
	ReplicasFieldManager = "vmcp-operator-replicas"
)

// Conditions of a VirtualMCPServer that the operator owns.
const (
	// ConditionGroupRefValid is true while spec.groupRef names an MCPGroup that exists.
	ConditionGroupRefValid = "GroupRefValid"
	// ConditionOperandRendered is true when the objects to provision could be rendered from the spec.
	ConditionOperandRendered = "OperandRendered"
	// ConditionRBACReady is true when the ServiceAccount, Role and RoleBindings of the runtime are as they should be.
	ConditionRBACReady = "RBACReady"
	// ConditionConfigReady is true when the ConfigMap and the Lease of the runtime are as rendered.
	ConditionConfigReady = "ConfigReady"
	// ConditionDeploymentReady is true when the Deployment has rolled out the present template and its pods are available.
	ConditionDeploymentReady = "DeploymentReady"
	// ConditionServiceReady is true when the Service is as rendered and has an address.
	ConditionServiceReady = "ServiceReady"
	// ConditionRuntimeReporting is true while the runtime reports: phase, message and discoveredBackends are its word then. While it
	// is not true they are the operator's.
	ConditionRuntimeReporting = "RuntimeReporting"
)

// Conditions of a VirtualMCPServer that the runtime owns.
const (
	// ConditionBackendsDiscovered is true once the runtime has a complete list of the group's backends.
	ConditionBackendsDiscovered = "BackendsDiscovered"
	// ConditionCatalogReady is true when the catalog that is served has been built from every ready backend.
	ConditionCatalogReady = "CatalogReady"
)

// ConditionReady is the summary of an object. The runtime owns it on a VirtualMCPServer (something is being served), except while it
// does not report (see ConditionRuntimeReporting); the operator owns it on the other kinds: what it provisions for an MCPBackend is there,
// the Secrets of an MCPExternalAuthConfig may be used, the gateways of an MCPGroup have the rights that its backends call for.
const ConditionReady = "Ready"

// ConditionStalled is abnormal-true: a person has to change something before reconciliation can go on. It is absent otherwise
// (the kstatus convention).
const ConditionStalled = "Stalled"

// ConditionPaused is abnormal-true: the operator leaves the object and what it provisioned for it alone, and the rest of its part
// of the status is as it was when the pause began. It is absent otherwise.
const ConditionPaused = "Paused"

// Reasons of conditions that several types share.
const (
	// ReasonApplied says that the objects are as rendered.
	ReasonApplied = "Applied"
	// ReasonApplyFailed says that the API server refused an object; the message quotes it.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonNotOwned says that an object of the wanted name exists and belongs to somebody else.
	ReasonNotOwned = "NotOwned"
	// ReasonAuthRolesBound says that runtimes have the rights to read the credentials that their backends name.
	ReasonAuthRolesBound = "AuthRolesBound"
	// ReasonAuthRoleNotBound says that runtimes could not be given, or not be deprived of, the rights to read the Secrets of an
	// MCPExternalAuthConfig; the message names it. Everything else goes on.
	ReasonAuthRoleNotBound = "AuthRoleNotBound"
	// ReasonBlocked says that an earlier step failed, so that this one was not tried.
	ReasonBlocked = "Blocked"
	// ReasonInvalidSpec says that the spec has a mistake that the schema does not catch; the message names the field.
	ReasonInvalidSpec = "InvalidSpec"
)

// ReasonAnnotationSet is the reason of Paused: the object carries PausedAnnotation with the value "true".
const ReasonAnnotationSet = "AnnotationSet"

// Reasons of GroupRefValid.
const (
	// ReasonGroupFound says that the MCPGroup exists.
	ReasonGroupFound = "GroupFound"
	// ReasonGroupNotFound says that no MCPGroup of that name exists in the namespace.
	ReasonGroupNotFound = "GroupNotFound"
)

// Reasons of OperandRendered.
const (
	// ReasonRendered says that rendering succeeded.
	ReasonRendered = "Rendered"
	// ReasonRenderFailed says that rendering failed; the message says where.
	ReasonRenderFailed = "RenderFailed"
)

// Reasons of DeploymentReady, ServiceReady and of Ready on an MCPBackend.
const (
	// ReasonAvailable says that the present template is rolled out and its pods are available.
	ReasonAvailable = "Available"
	// ReasonProgressing says that a rollout is under way or pods are not available yet.
	ReasonProgressing = "Progressing"
	// ReasonProgressDeadlineExceeded says that the Deployment gave up; the message quotes it.
	ReasonProgressDeadlineExceeded = "ProgressDeadlineExceeded"
	// ReasonAddressAssigned says that the Service has a cluster address.
	ReasonAddressAssigned = "AddressAssigned"
	// ReasonNoAddress says that the Service has no cluster address yet.
	ReasonNoAddress = "NoAddress"
	// ReasonServiceFound says that the Service that a backend names exists and has the port.
	ReasonServiceFound = "ServiceFound"
	// ReasonServiceNotFound says that the Service that a backend names does not exist.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonPortNotFound says that the Service that a backend names lacks the port.
	ReasonPortNotFound = "PortNotFound"
	// ReasonNothingToProvision says that a remote backend needs nothing in the cluster.
	ReasonNothingToProvision = "NothingToProvision"
	// ReasonServiceAccountNotFound says that the ServiceAccount that a workload names does not exist.
	ReasonServiceAccountNotFound = "ServiceAccountNotFound"
	// ReasonServiceAccountNotAllowed says that the ServiceAccount that a workload names is not labelled for workloads.
	ReasonServiceAccountNotAllowed = "ServiceAccountNotAllowed"
)

// Reasons of Ready on an MCPExternalAuthConfig, and of the entry of a backend whose credentials cannot be used. Such a backend is
// never called. Those about Secrets are reasons of Ready on an MCPBackend, too: its workload names one that it may not use, and stays
// as it is.
const (
	// ReasonCredentialsFound says that the Secrets exist and may be used.
	ReasonCredentialsFound = "CredentialsFound"
	// ReasonAuthConfigNotFound says that the MCPExternalAuthConfig that was chosen for the backend does not exist.
	ReasonAuthConfigNotFound = "AuthConfigNotFound"
	// ReasonAuthConfigInvalid says that the MCPExternalAuthConfig has a mistake that the schema does not catch.
	ReasonAuthConfigInvalid = "AuthConfigInvalid"
	// ReasonSecretNotFound says that a Secret does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretNotAllowed says that a Secret is not labelled as a credential.
	ReasonSecretNotAllowed = "SecretNotAllowed"
	// ReasonSecretKeyNotFound says that a Secret lacks the key.
	ReasonSecretKeyNotFound = "SecretKeyNotFound"
	// ReasonSecretUnusable says that the value in a Secret cannot be used, for example not as the value of a header.
	ReasonSecretUnusable = "SecretUnusable"
	// ReasonSecretUnreadable says that a Secret could not be read; the message says why.
	ReasonSecretUnreadable = "SecretUnreadable"
)

// Reasons of Ready on a VirtualMCPServer, and of its phase.
const (
	// ReasonAllBackendsReady says that every discovered backend is served.
	ReasonAllBackendsReady = "AllBackendsReady"
	// ReasonBackendsNotReady says that some backends are served and some are not.
	ReasonBackendsNotReady = "BackendsNotReady"
	// ReasonNoBackendReady says that backends were discovered and none of them is served.
	ReasonNoBackendReady = "NoBackendReady"
	// ReasonNoBackends says that the group has no backends.
	ReasonNoBackends = "NoBackends"
	// ReasonCatalogConflicts says that names clash and could not be resolved.
	ReasonCatalogConflicts = "CatalogConflicts"
	// ReasonConfigurationRefused says that a newer configuration is not valid, so that the one before is served.
	ReasonConfigurationRefused = "ConfigurationRefused"
	// ReasonDiscovered says that the list of backends is complete.
	ReasonDiscovered = "Discovered"
	// ReasonDiscoveryFailed says that the list of backends could not be read; the last complete one is served.
	ReasonDiscoveryFailed = "DiscoveryFailed"
	// ReasonCatalogBuilt says that the catalog holds what the ready backends offer.
	ReasonCatalogBuilt = "CatalogBuilt"
)

// Reasons of RuntimeReporting, and of Ready on a VirtualMCPServer while the runtime does not report.
const (
	// ReasonReporting says that the runtime reports.
	ReasonReporting = "Reporting"
	// ReasonNotYetReported says that no report has been made yet, and that one may still come.
	ReasonNotYetReported = "NotYetReported"
	// ReasonPodsCannotRun says that there is no report because the pods cannot run; the message quotes why. It is a reason of
	// Stalled, too.
	ReasonPodsCannotRun = "PodsCannotRun"
	// ReasonHeartbeatLost says that the runtime stopped renewing its Lease.
	ReasonHeartbeatLost = "HeartbeatLost"
	// ReasonReleased says that the runtime released its Lease and no other replica took it.
	ReasonReleased = "Released"
)

// Reasons of an entry of status.catalog.issues.
const (
	// ReasonNameConflict says that another backend has the name, and that nothing says who is to win.
	ReasonNameConflict = "NameConflict"
	// ReasonNameShadowed says that another backend has the name, and that spec.aggregation.conflictResolution.priority says that it wins.
	ReasonNameShadowed = "NameShadowed"
	// ReasonNameChanged says that the name was too long, or had characters that MCP does not allow.
	ReasonNameChanged = "NameChanged"
	// ReasonNotOffered says that something cannot be offered; the message says why.
	ReasonNotOffered = "NotOffered"
	// ReasonSchemaChanged says that the schema of a tool is not the one that the reporting pod first read.
	ReasonSchemaChanged = "SchemaChanged"
	// ReasonOverrideUnused says that an override is for a tool that the backend does not have.
	ReasonOverrideUnused = "OverrideUnused"
)

// Reasons of an entry of status.discoveredBackends.
const (
	// ReasonNoReport says that the runtime stopped reporting, so that nobody knows.
	ReasonNoReport = "NoReport"
	// ReasonNameClash says that another object of the group has the same name, and is the one that is called.
	ReasonNameClash = "NameClash"
	// ReasonProbing says that no probe has been answered yet.
	ReasonProbing = "Probing"
	// ReasonProbeSucceeded says that the backend answers and its lists could be read.
	ReasonProbeSucceeded = "ProbeSucceeded"
	// ReasonSlow says that a probe is unanswered for longer than a healthy backend takes.
	ReasonSlow = "Slow"
	// ReasonProbeFailing says that the last probes failed, too few of them to give the backend up.
	ReasonProbeFailing = "ProbeFailing"
	// ReasonConnectionRefused says that nothing listens at the backend's address.
	ReasonConnectionRefused = "ConnectionRefused"
	// ReasonNameNotResolved says that the host name of the backend is unknown, or that no name server could tell; the message says which.
	ReasonNameNotResolved = "NameNotResolved"
	// ReasonCertificateUntrusted says that no authority that the gateway trusts signed the backend's certificate.
	ReasonCertificateUntrusted = "CertificateUntrusted"
	// ReasonCertificateExpired says that the backend's certificate has expired, or is not valid yet.
	ReasonCertificateExpired = "CertificateExpired"
	// ReasonCertificateNameMismatch says that the backend's certificate is for another host name.
	ReasonCertificateNameMismatch = "CertificateNameMismatch"
	// ReasonClientCertificateRequired says that the backend wants a client certificate, and the gateway has none.
	ReasonClientCertificateRequired = "ClientCertificateRequired"
	// ReasonTLSFailed says that the TLS handshake with the backend failed in another way, or that only one side speaks TLS; the
	// message says which.
	ReasonTLSFailed = "TLSFailed"
	// ReasonTimeout says that the backend did not answer in time.
	ReasonTimeout = "Timeout"
	// ReasonServerError says that the backend answers that it cannot take requests at present: with HTTP status 5xx or 429.
	ReasonServerError = "ServerError"
	// ReasonRedirected says that the backend redirects to where the gateway must not follow; the message names the address.
	ReasonRedirected = "Redirected"
	// ReasonNotMCP says that what answers at the address does not speak MCP.
	ReasonNotMCP = "NotMCP"
	// ReasonUnsupportedVersion says that the backend speaks no MCP revision that the gateway speaks.
	ReasonUnsupportedVersion = "UnsupportedVersion"
	// ReasonUnauthorized says that the backend refused the credentials, or wants some.
	ReasonUnauthorized = "Unauthorized"
	// ReasonProtocolError says that the backend answered with an MCP error, or with what MCP does not allow.
	ReasonProtocolError = "ProtocolError"
	// ReasonConnectionFailed says that the connection was cut, or failed in another way; the message says how.
	ReasonConnectionFailed = "ConnectionFailed"
)
