package cel

import apiservercel "k8s.io/apiserver/pkg/cel"

// member is a field of a type that expressions may read.
type member struct {
	name     string
	declared *apiservercel.DeclType
	required bool
}

func object(name string, members ...member) *apiservercel.DeclType {
	fields := make(map[string]*apiservercel.DeclField, len(members))
	for _, m := range members {
		fields[m.name] = apiservercel.NewDeclField(m.name, m.declared, m.required, nil, nil)
	}
	return apiservercel.NewObjectType(name, fields)
}

// BuildRequestType is the type of `request`: an AdmissionRequest without its uid, which no rule needs, and without the objects,
// which have names of their own.
func BuildRequestType() *apiservercel.DeclType {
	text, texts := apiservercel.StringType, apiservercel.NewListType(apiservercel.StringType, -1)
	gvk := object("kubernetes.GroupVersionKind", member{"group", text, true}, member{"version", text, true}, member{"kind", text, true})
	gvr := object("kubernetes.GroupVersionResource", member{"group", text, true}, member{"version", text, true}, member{"resource", text, true})
	user := object("kubernetes.UserInfo",
		member{"username", text, false},
		member{"uid", text, false},
		member{"groups", texts, false},
		member{"extra", apiservercel.NewMapType(text, texts, -1), false},
	)
	return object("kubernetes.AdmissionRequest",
		member{"kind", gvk, true},
		member{"resource", gvr, true},
		member{"subResource", text, false},
		member{"requestKind", gvk, true},
		member{"requestResource", gvr, true},
		member{"requestSubResource", text, false},
		member{"name", text, true},
		member{"namespace", text, false},
		member{"operation", text, true},
		member{"userInfo", user, true},
		member{"dryRun", apiservercel.BoolType, false},
		member{"options", apiservercel.DynType, false},
	)
}

// BuildNamespaceType is the type of `namespaceObject`: of the metadata, what rules may rely on (no owners, no managed fields).
func BuildNamespaceType() *apiservercel.DeclType {
	text, time := apiservercel.StringType, apiservercel.TimestampType
	texts, words := apiservercel.NewListType(text, -1), apiservercel.NewMapType(text, text, -1)
	condition := object("kubernetes.NamespaceCondition",
		member{"status", text, true},
		member{"type", text, true},
		member{"lastTransitionTime", time, true},
		member{"message", text, true},
		member{"reason", text, true},
	)
	metadata := object("kubernetes.NamespaceMetadata",
		member{"name", text, true},
		member{"generateName", text, true},
		member{"namespace", text, true},
		member{"labels", words, true},
		member{"annotations", words, true},
		member{"UID", text, true},
		member{"creationTimestamp", time, true},
		member{"deletionGracePeriodSeconds", apiservercel.IntType, true},
		member{"deletionTimestamp", time, true},
		member{"generation", apiservercel.IntType, true},
		member{"resourceVersion", text, true},
		member{"finalizers", texts, true},
	)
	return object("kubernetes.Namespace",
		member{"metadata", metadata, true},
		member{"spec", object("kubernetes.NamespaceSpec", member{"finalizers", texts, true}), true},
		member{"status", object("kubernetes.NamespaceStatus",
			member{"conditions", apiservercel.NewListType(condition, -1), true},
			member{"phase", text, true},
		), true},
	)
}
