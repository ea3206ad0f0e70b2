// What can be chosen: one type for each parameter that main.bicep, for a subscription, and resources.bicep, for a
// resource group, have in common. Their defaults stand in both; a test holds them together.

// --- Drops ---

@export()
@description('IDs, in lower case, of the iTwins that images may be dropped for: a container is created for each.')
type itwinIds = string[]

@export()
@description('Delete drops this many days after they were written. 0 keeps them.')
@minValue(0)
@maxValue(3650)
type deleteDropsAfterDays = int

@export()
@description('Delete results this many days after they were written. 0 keeps them.')
@minValue(0)
@maxValue(3650)
type deleteResultsAfterDays = int

@export()
@description('Delete earlier versions of replaced and deleted blobs after this many days.')
@minValue(1)
@maxValue(3650)
type deleteVersionsAfterDays = int

@export()
@description('How many days deleted blobs and containers can be restored.')
@minValue(1)
@maxValue(365)
type softDeleteDays = int

@export()
@description('Redundancy of the storage accounts when they are created. With zoneRedundant, LRS becomes ZRS and GRS becomes GZRS.')
type storageSku = 'Standard_LRS' | 'Standard_ZRS' | 'Standard_GRS' | 'Standard_GZRS'

@export()
@description('Let Defender for Storage scan every drop for malware; it is billed per GB. It only reports what it finds: the app still processes infected drops.')
type malwareScanning = bool

// --- iTwin Platform ---

@export()
@description('Address of the iTwin Platform API; with managed-identity, the address of your own gateway in front of it.')
type itwinApiUrl = string

@export()
@description('Where the access token comes from: client credentials of an iTwin service app; the app\'s managed identity, through a gateway that is deployed too; or the same through your own gateway.')
type itwinLogin = 'client-credentials' | 'gateway' | 'managed-identity'

@export()
@description('Client ID of the app registration that the app\'s tokens are for. Required with gateway.')
type gatewayApplicationId = string

@export()
@description('Scope to request tokens for. Required with managed-identity, like api://<application ID>/.default; empty means itwin-platform with client-credentials.')
type itwinTokenScope = string

@export()
@description('Token endpoint of the iTwin Platform. Used with client-credentials and gateway.')
type itwinTokenUrl = string

@export()
@description('Client ID of the iTwin service app. Required with client-credentials and gateway. Its secret goes into the vault, never here.')
type itwinClientId = string

@export()
@description('Seconds that one upload may take.')
@minValue(1)
@maxValue(45)
type itwinTimeoutS = int

// --- What is taken and how long it is tried ---

@export()
@description('What to do with images longer than 5:1.')
type aspectPolicy = 'pad' | 'crop' | 'reject'

@export()
@description('Blobs with more bytes are rejected unread.')
@minValue(1)
@maxValue(2000000000)
type maxSourceBytes = int

@export()
@description('Images with more pixels are rejected undecoded.')
@minValue(1)
@maxValue(1000000000)
type maxSourcePixels = int

@export()
@description('Images that must be re-encoded are scaled down to this many pixels.')
@minValue(10000)
@maxValue(1000000000)
type maxOutputPixels = int

@export()
@description('Seconds of CPU time that one image may take.')
@minValue(1)
@maxValue(30)
type maxImageCpuS = int

@export()
@description('MB of memory that all images of an instance may take together, and thus a single one; 0 uses the memory that the instance has to spare.')
@minValue(0)
@maxValue(100000)
type maxImageMemoryMB = int

@export()
@description('Shortest delay before a retry, in seconds.')
@minValue(1)
@maxValue(3600)
type retryMinDelayS = int

@export()
@description('Longest delay before a retry, in seconds.')
@minValue(1)
@maxValue(604800)
type retryMaxDelayS = int

@export()
@description('How long a drop is retried before it fails, in seconds.')
@minValue(1)
@maxValue(604800)
type retryHorizonS = int

@export()
@description('How long an iTwin that the platform does not find is retried before the drop is rejected, in seconds.')
@minValue(0)
@maxValue(604800)
type retryNotFoundS = int

// --- Scale ---

@export()
@description('Memory of one instance in MB. Each instance processes four images at once; with 512 MB only one, and not the largest ones.')
type instanceMemoryMB = 512 | 2048 | 4096

@export()
@description('Maximum number of instances that each group of functions may scale out to: drops are one group, retries another. Some regions refuse fewer than 40.')
@minValue(1)
@maxValue(1000)
type maximumInstanceCount = int

@export()
@description('How many instances are kept ready for drops. They save the cold start and are billed by the hour.')
@minValue(0)
@maxValue(100)
type alwaysReadyInstances = int

@export()
@description('Spread plan and storage over the zones of the region. At least two always-ready instances of each group of functions are billed.')
type zoneRedundant = bool

// --- Network ---

@export()
@description('Close storage and vault to the public and reach them over private endpoints.')
type privateNetworking = bool

@export()
@description('Address space of the virtual network that is created with privateNetworking; a /24 or larger.')
type networkAddressPrefix = string

@export()
@description('ID of an existing subnet for the app, delegated to Microsoft.App/environments, with privateNetworking. Set it together with endpointSubnetId; empty creates a network.')
type appSubnetId = string

@export()
@description('ID of an existing subnet for the private endpoints, with privateNetworking. Set it together with appSubnetId.')
type endpointSubnetId = string

@export()
@description('ID of an existing subnet for the gateway alone, delegated to Microsoft.Web/serverFarms, with a network security group. Required with gateway if the other two subnets are set.')
type gatewaySubnetId = string

@export()
@description('Private DNS zones of the endpoints: `here` creates them, `policy` leaves them to your own policy, and the ID of a resource group uses the existing ones in it.')
type privateDnsZones = string

@export()
@description('Public addresses (CIDR) from which operators may call the app\'s HTTP functions, with privateNetworking.')
type operatorAddressRanges = string[]

// --- Operation ---

@export()
@description('Microsoft Entra object ID of the operator, who may drop images, read results and logs and, if the vault is created here, set the secret. Empty for no operator.')
type operatorPrincipalId = string

@export()
@description('The type of principal that operatorPrincipalId is.')
type operatorPrincipalType = 'User' | 'Group' | 'ServicePrincipal'

@export()
@description('E-mail address to send alerts to. Empty sends no e-mail; alerts still show in Azure Monitor.')
type alertEmail = string

@export()
@description('Alert when a drop has no final result after this many minutes, or never reached the app.')
@minValue(10)
@maxValue(1440)
type overdueAfterMinutes = int

@export()
@description('How many days the app\'s logs are kept in a workspace that is created here. 90 days cost no more than fewer.')
@minValue(30)
@maxValue(730)
type logRetentionDays = int

@export()
@description('Protect the drop account and the vault from deletion with a lock on each. Requires permission to create locks.')
type deleteLocks = bool

// --- What is there already ---

@export()
@description('Assign the roles that the deployment needs. Without permission to assign roles, set it to false after someone with that permission has deployed once or assigned them.')
type assignRoles = bool

@export()
@description('Diagnostic settings of the drop account, its events and the vault: `here` creates them, `policy` leaves them to your own policy, which must send the same logs to the same workspace.')
type diagnosticSettings = 'here' | 'policy'

@export()
@description('ID of an existing Log Analytics workspace. Empty creates one.')
type workspaceId = string

@export()
@description('ID of an existing action group to alert. Empty creates one.')
type actionGroupId = string

@export()
@description('ID of an existing vault, with role-based access control, for the client secret. Empty creates one.')
type vaultId = string

@export()
@description('Name of an existing Event Grid system topic of the drop account, with a system-assigned identity: an account has at most one. Empty creates one.')
type existingEventTopicName = string

@export()
@description('Tags of every resource, in addition to azd\'s own.')
type tags = { *: string }

@export()
@description('Tags that resources have already, so that a deployment does not remove them: `azd` sets it, or `python3 infra/hooks.py tags GROUP` prints it.')
type existingTags = { *: { *: string } }
