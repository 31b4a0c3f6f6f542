// Stepping: a gate holds what a component would be told, and lets it through one at a time.

import {h, byID} from './dom.js'
import {t} from './strings.js'
import {get, post} from './api.js'

const components = ['scheduler', 'controller-manager', 'kubelet', 'proxy', 'dns']
const slowly = 5000 // ms between two looks while nothing is held
const quickly = 1000

export class Gates {
  /** changed is called with the closed gates. */
  constructor(changed) {
    this.changed = changed
    this.box = byID('gates')
    this.gates = []
    this.controllers = new Set()
    this.passed = new Map() // the last event let through, by gate
    this.look()
  }

  async look() {
    clearTimeout(this.timer)
    if (!document.hidden) {
      try {
        this.gates = (await get('gates')).gates ?? []
        this.error = undefined
      } catch (error) {
        this.error = error.message
      }
      this.show()
    }
    this.timer = setTimeout(() => this.look(), this.gates.length ? quickly : slowly)
  }

  /** act closes, steps or opens a gate: path is '', 'one' or 'continue'. */
  async act(path, gate) {
    const name = nameOf(gate)
    try {
      const answer = await post(path ? `gates/${path}` : 'gates', {component: gate.component, resource: gate.resource, controller: gate.controller})
      if (path === 'one') this.passed.set(name, answer.passed ? says(answer.passed) : answer.note || t('nothingHeld'))
      if (path === 'continue') this.passed.delete(name)
    } catch (error) {
      this.passed.set(name, error.message)
    }
    await this.look()
  }

  /** first is the gate that keys act upon: the one closed last, or the scheduler's. */
  first() { return this.gates.at(-1) ?? {component: 'scheduler'} }

  saw(controller) {
    if (!controller || this.controllers.has(controller)) return
    this.controllers.add(controller)
    this.show()
  }

  show() {
    this.changed(this.gates)
    const focused = this.box.contains(document.activeElement) && document.activeElement.id
    if (document.activeElement?.id === 'gate-controller') return // a list that is open stays open
    const idle = components.filter(name => !this.gates.some(gate => gate.component === name && !gate.controller && !gate.resource))
    this.box.replaceChildren(h('h2', {}, t('gates')), this.error ? h('p', {class: 'error'}, this.error) : '',
      ...this.gates.map(gate => this.closed(gate)), h('div', {class: 'open-gates'}, idle.map(name => this.open({component: name})), this.choose()))
    if (focused) byID(focused)?.focus()
  }

  open(gate) {
    const name = nameOf(gate)
    return h('button', {id: `step-${name}`, class: 'step', title: t('stopAtHint', {name}), onclick: () => this.act('', gate)}, `▮▮ ${t('stopAt')} `, h('b', {}, name))
  }

  choose() {
    if (!this.controllers.size) return undefined
    return h('select', {id: 'gate-controller', 'aria-label': t('controller'), onchange: event => {
      const controller = event.target.value
      event.target.blur()
      this.act('', {component: 'controller-manager', controller})
    }}, h('option', {value: ''}, t('controller')), [...this.controllers].sort().map(name => h('option', {}, name)))
  }

  closed(gate) {
    const name = nameOf(gate)
    const button = (path, key, text) => h('button', {id: `${path}-${name}`, class: path, title: t(key, {name}), onclick: () => this.act(path, gate)}, text)
    return h('div', {class: 'gate', role: 'group', 'aria-label': name},
      h('b', {}, `▮▮ ${name}`), ' ', h('span', {class: 'count'}, gate.held ? t('held', {n: gate.held}) : t('nothingHeld')),
      gate.connected ? '' : h('span', {class: 'error'}, ` ${t('notConnected')}`),
      h('span', {class: 'buttons'}, button('one', 'oneHint', `▸ ${t('one')}`), button('continue', 'goOnHint', `▶ ${t('goOn')}`)),
      gate.next ? h('p', {class: 'next'}, `${t('next')}: `, h('code', {}, says(gate.next))) : '',
      this.passed.has(name) ? h('p', {class: 'passed'}, `${t('passed')}: `, h('code', {}, this.passed.get(name))) : '',
      gate.note ? h('p', {class: 'note'}, gate.note) : '')
  }
}

const nameOf = gate => [gate.component, gate.controller, gate.resource].filter(Boolean).join('/')
const says = event => `${event.type} ${event.kind} ${event.namespace ? `${event.namespace}/` : ''}${event.name}${event.revision ? ` @${event.revision}` : ''}`
