// The objects as trees: from Deployment to container, from Service to rule.

import {h, byID} from './dom.js'
import {t} from './strings.js'
import {get} from './api.js'

export class Objects {
  /** chosen is called with an object that was clicked. */
  constructor(chosen) {
    this.chosen = chosen
    this.view = byID('view-objects')
    this.system = false
  }

  get visible() { return !this.view.hidden }

  /** soon reads the objects once more, a moment after something has happened. */
  soon() {
    if (!this.visible || this.timer) return
    this.timer = setTimeout(() => { this.timer = undefined; this.show() }, 500)
  }

  async show() {
    let objects
    try {
      objects = await get('objects')
    } catch (error) {
      return this.view.replaceChildren(h('p', {class: 'error'}, error.message))
    }
    const focused = this.view.contains(document.activeElement) && document.activeElement.dataset.key
    const part = (title, trees) => {
      const some = trees.filter(tree => this.system || tree.namespace !== 'kube-system')
      return h('section', {}, h('h2', {}, t(title)), some.length ? h('ul', {class: 'forest'}, some.map(tree => this.tree(tree))) : h('p', {class: 'quiet'}, t('noObjects')))
    }
    this.view.replaceChildren(
      h('label', {class: 'system'}, h('input', {type: 'checkbox', checked: this.system, onchange: event => { this.system = event.target.checked; this.show() }}), ' ', t('system')),
      part('workloads', objects.owners), part('network', objects.services))
    if (focused) this.view.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus()
  }

  tree(tree, above = '') {
    const key = `${above}/${tree.kind} ${tree.namespace ?? ''} ${tree.name}`
    const real = /^[A-Z]/.test(tree.kind) // endpoints, containers and rules are parts of objects
    const content = [h('span', {class: 'kind'}, tree.kind), ' ', h('b', {}, tree.name), ' ', h('span', {class: 'text'}, tree.text ?? '')]
    const attributes = {class: `thing ${tree.state} ${tree.kind}`, 'data-key': key}
    return h('li', {},
      real ? h('button', {...attributes, onclick: () => this.chosen(tree)}, content) : h('span', attributes, content),
      tree.children?.length ? h('ul', {}, tree.children.map(child => this.tree(child, key))) : undefined)
  }
}
