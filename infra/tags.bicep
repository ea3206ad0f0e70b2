// The tags of a resource. A deployment replaces them, so it passes on those that the resource already has, of which
// hooks.py makes the list: a template cannot read them, as `tags` must be known when a deployment begins.
// https://aka.ms/bicep/core-diagnostics#BCP120

@export()
@description('Tags by resource: those of every resource, and those that existing resources already have, by the part of their IDs after /providers/, in lower case.')
type tagging = {
  all: { *: string }
  existing: { *: { *: string } }
}

@export()
@description('The tags of a resource, like `Microsoft.Web/sites/NAME`. A new value replaces that of the same name.')
func tagsOf(tags tagging, resource string) object => union(tags.existing[?toLower(resource)] ?? {}, tags.all)
