// The list of what happened, grouped by cause: the newest group on top, and in it
// everything in the order in which it happened.

import {h, byID} from './dom.js'
import {t} from './strings.js'
import {isNoise, programOf, placeOf, duration} from './arrows.js'

const maxShown = 150 // of a group

export class Timeline {
  /** opened is called with the arrow that was clicked. */
  constructor(arrows, opened) {
    Object.assign(this, {arrows, opened, noise: false, only: undefined})
    this.list = byID('groups')
    this.list.addEventListener('keydown', event => this.move(event))
  }

  /** show draws the groups that have changed; anew: all of them. */
  show(anew) {
    for (const group of this.arrows.groups) {
      if (!group.changed && !anew) continue
      group.changed = false
      const shown = group.arrows.filter(arrow => this.wanted(arrow))
      const element = shown.length ? this.group(group, shown) : undefined
      if (group.element?.isConnected && element) keepFocus(group.element, element)
      else if (element) this.list.prepend(element)
      else group.element?.remove()
      group.element = element
    }
    this.quiet?.remove()
    if (!this.list.children.length) {
      this.quiet = h('p', {class: 'quiet'}, t('quiet'), h('code', {}, 'hyperkube kubectl create deployment web --image=hyperkube.local/demo --replicas=3'))
      this.list.append(this.quiet)
    }
    const filter = byID('filter')
    filter.hidden = !this.only
    if (this.only) filter.replaceChildren(t('only', {name: this.only}), ' ', h('button', {onclick: () => this.filter(undefined)}, t('showAll')))
  }

  wanted(arrow) {
    if (!this.noise && isNoise(arrow)) return false
    return !this.only || placeOf(programOf(arrow)) === this.only || this.only === 'apiserver' || (this.only === 'etcd' && arrow.kind === 'write')
  }

  filter(name) {
    this.only = this.only === name ? undefined : name
    this.list.replaceChildren()
    this.show(true)
  }

  group(group, shown) {
    const hidden = shown.length - maxShown
    const some = hidden > 0 ? [shown[0], ...shown.slice(hidden + 1)] : shown
    const began = new Date(shown[0].time)
    return h('ol', {class: 'group'}, some.map((arrow, i) => [
      h('li', {'data-depth': Math.min(arrow.depth, 5)}, this.item(arrow, began, i === 0)),
      i === 0 && hidden > 0 && h('li', {class: 'more'}, `… ${hidden}`),
    ]))
  }

  item(arrow, began, first) {
    const [kind, name] = (arrow.object ?? '').split(' ')
    const time = first ? began.toLocaleTimeString() : `+${duration((new Date(arrow.time) - began) * 1e6)}`
    return h('button', {class: `arrow ${arrow.kind} ${arrow.error ? 'refused' : ''}`, 'data-id': arrow.id, onclick: () => this.opened(arrow)},
      h('time', {}, time), h('span', {class: 'who'}, arrow.from), ' ',
      h('span', {class: 'what'}, arrow.what, arrow.detail === 'gone' && arrow.what !== 'delete' ? ` (${t('gone')})` : ''), ' ',
      h('span', {class: 'kind'}, kind ?? ''), ' ', h('span', {class: 'object'}, name ?? ''),
      arrow.kind === 'refused' && h('span', {class: 'code'}, ` ${arrow.code} ${t('refused')}`))
  }

  /** move takes the arrow keys through the list. */
  move(event) {
    const step = {ArrowDown: 1, ArrowUp: -1, j: 1, k: -1}[event.key]
    if (!step) return
    event.preventDefault()
    this.go(step)
  }

  go(step) {
    const all = [...this.list.querySelectorAll('button.arrow')]
    const now = all.indexOf(document.activeElement)
    all[Math.max(0, Math.min(all.length - 1, now + step))]?.focus()
  }
}

/** keepFocus puts a group in the place of its former self, without taking the focus from who reads it. */
function keepFocus(old, now) {
  const id = old.contains(document.activeElement) && document.activeElement.dataset.id
  old.replaceWith(now)
  if (id) now.querySelector(`[data-id="${id}"]`)?.focus()
}
