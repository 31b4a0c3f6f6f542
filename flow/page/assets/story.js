// The story of one object: what happened to it, and because of it, in the order of causes.

import {h, byID} from './dom.js'
import {t} from './strings.js'
import {get} from './api.js'
import {duration} from './arrows.js'

const kinds = ['Deployment', 'ReplicaSet', 'StatefulSet', 'DaemonSet', 'Job', 'CronJob', 'Pod', 'Service', 'EndpointSlice', 'Node', 'Namespace', 'ConfigMap', 'Secret']
const groups = {Deployment: 'apps', ReplicaSet: 'apps', StatefulSet: 'apps', DaemonSet: 'apps', Job: 'batch', CronJob: 'batch', EndpointSlice: 'discovery.k8s.io'}

export class Story {
  /** opened is called with a line that was clicked; why: whether the server explains states. */
  constructor(opened) {
    this.opened = opened
    this.view = byID('view-story')
    this.why = false
  }

  get visible() { return !this.view.hidden }

  /** soon tells the story once more, a moment after something has happened to it. */
  soon() {
    if (!this.visible || !this.object || this.timer) return
    this.timer = setTimeout(() => { this.timer = undefined; this.show(this.object) }, 700)
  }

  async show(object) {
    this.object = object
    if (!object) return this.view.replaceChildren(this.form())
    const {kind, namespace, name} = object
    let story
    try {
      story = await get('trace', {kind, namespace, name, group: object.group ?? groups[kind]})
    } catch (error) {
      return this.view.replaceChildren(this.form(), h('p', {class: 'error'}, error.message))
    }
    if (this.view.contains(document.activeElement) && document.activeElement.matches('input, select')) return // somebody is typing
    const focused = document.activeElement?.dataset.line
    const body = story.roots.length ? this.lines(story.roots, new Date(story.roots[0].time)) : h('p', {class: 'quiet'}, t('noStory', {name: `${kind} ${name}`}))
    this.view.replaceChildren(this.form(), h('h2', {}, t('storyOf', {name: `${kind} ${namespace ? `${namespace}/` : ''}${name}`})),
      this.why && h('details', {ontoggle: event => this.explain(event.target)}, h('summary', {}, t('whyOf')), h('pre', {}, t('loading'))),
      story.lost ? h('p', {class: 'lost'}, t('lostStory')) : '', body)
    if (focused) this.view.querySelector(`[data-line="${focused}"]`)?.focus()
  }

  async explain(details) {
    if (!details.open) return
    const {kind, namespace, name} = this.object
    const text = details.querySelector('pre')
    try {
      text.textContent = (await get('why', {kind, namespace, name})).text
    } catch (error) {
      text.textContent = error.message
    }
  }

  form() {
    const {kind = 'Deployment', namespace = 'default', name = ''} = this.object ?? {}
    return h('form', {class: 'choose', onsubmit: event => {
      event.preventDefault()
      const data = new FormData(event.target)
      document.activeElement?.blur()
      this.show({kind: data.get('kind'), namespace: data.get('namespace'), name: data.get('name')})
    }}, h('span', {}, t('choose')), ' ',
    h('select', {name: 'kind', 'aria-label': 'kind'}, [...new Set([...kinds, kind])].map(k => h('option', {selected: k === kind}, k))),
    h('input', {name: 'namespace', value: namespace, 'aria-label': 'namespace', size: 10, placeholder: 'namespace'}),
    h('input', {name: 'name', value: name, 'aria-label': 'name', size: 14, placeholder: 'name', required: true}), h('button', {}, t('show')))
  }

  lines(nodes, began) {
    return h('ol', {class: 'story'}, nodes.map(node => h('li', {},
      h('button', {class: `arrow ${node.code >= 400 ? 'refused' : node.code ? 'write' : 'effect'}`, 'data-line': `${node.time}${node.what}${node.object}`.replace(/"/g, ''), onclick: () => this.opened(node)},
        h('time', {}, `+${duration((new Date(node.time) - began) * 1e6)}`), h('span', {class: 'who'}, node.component), ' ', h('span', {class: 'what'}, node.what), ' ',
        h('span', {class: 'object'}, node.object ?? ''), node.diff?.length ? h('span', {class: 'brief'}, node.diff[0], node.diff.length > 1 ? ' …' : '') : '',
        node.source?.file ? h('span', {class: 'where'}, `${node.source.file}:${node.source.line}`) : ''),
      node.children?.length ? this.lines(node.children, began) : undefined)))
  }
}
