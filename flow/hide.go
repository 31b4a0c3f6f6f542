package flow

// About is what something recorded is about. Whoever may not read that object is not shown
// what the record knows of its inside.
type About struct {
	// Group is "" where only the kind is known (effects). Kind is "" where only the resource is: nothing was written.
	Group, Kind, Resource string
	Namespace, Name       string
}

// hidden stands in the place of what is not shown.
const hidden = "(hidden: you may not get this object)"

// Hide takes out of a story the values of those objects of which may says no. Who did what
// to which, when and why stays.
func (s *Story) Hide(may func(About) bool) { hideNodes(s.Roots, may) }

// Hide is Story.Hide for one entry.
func (d *Detail) Hide(may func(About) bool) {
	if d.Node != nil && !may(d.Node.about) {
		d.Fields = nil
	}
	hideNodes([]*Node{d.Node}, may)
	hideNodes(d.Chain, may)
}

func hideNodes(nodes []*Node, may func(About) bool) {
	for _, n := range nodes {
		if n == nil {
			continue
		}
		if !may(n.about) {
			n.hide()
		}
		hideNodes(n.Children, may)
	}
}

// hide keeps of a node what its request line would tell.
func (n *Node) hide() {
	if n.Diff != nil {
		n.Diff = []string{hidden}
	}
	if n.Detail != "" {
		n.Detail = hidden
	}
	if n.Error != "" {
		n.Error = hidden
	}
	for i := range n.AdmissionSteps {
		n.AdmissionSteps[i].Diff = nil
	}
}

// About is what the effect is about.
func (e *Effect) About() About { return About{Kind: e.Kind, Namespace: e.Namespace, Name: e.Name} }

// Hide takes out all but that it happened.
func (e *Effect) Hide() {
	e.Detail, e.Lines, e.Data = hidden, nil, nil
	if e.Error != "" {
		e.Error = hidden
	}
}
