// The picture of the cluster: its components, and each arrow as it happens. Things happen
// faster than anybody can see, so arrows wait for their turn here; the more wait, the
// faster they are shown.

import {s, calm} from './dom.js'
import {t} from './strings.js'
import {isNoise, programOf, placeOf} from './arrows.js'

// Where things are, by the width of the window: the middle, width and height of each box.
const wide = {
  size: [1000, 600],
  apiserver: [505, 285, 230, 104], etcd: [505, 520, 200, 84], scheduler: [150, 185, 230, 88], 'controller-manager': [150, 430, 280, 270],
  kubelet: [875, 120, 230, 88], cri: [875, 262, 230, 84], proxy: [875, 404, 230, 88], dns: [875, 536, 230, 84],
  clients: [[505, 62], [265, 62], [700, 62]], client: [210, 84], chips: 10, chip: 30,
}
const narrow = {
  size: [400, 650],
  apiserver: [150, 165, 220, 76], etcd: [337, 165, 106, 68], scheduler: [99, 300, 178, 66], 'controller-manager': [99, 490, 178, 240],
  kubelet: [301, 300, 178, 66], cri: [301, 400, 178, 62], proxy: [301, 500, 178, 66], dns: [301, 592, 178, 62],
  clients: [[105, 50], [300, 50]], client: [180, 62], chips: 6, chip: 26,
  gutter: 200, // between the two columns: the ways to the apiserver run there
}
const always = ['apiserver', 'etcd', 'scheduler', 'controller-manager', 'kubelet', 'cri', 'proxy', 'dns']

const flight = 900 // ms for an arrow's way
const shortest = 25
const longest = 180 // ms between two arrows
const maxQueue = 400

export class Diagram {
  /** chosen is called with the name of a component that was clicked. */
  constructor(parent, chosen) {
    this.parent = parent
    this.chosen = chosen
    this.boxes = new Map()
    this.clients = []
    this.chips = new Map() // the controllers seen, by name
    this.lanes = new Map() // the label on each way
    this.queue = []
    this.pace = 1
    this.health = new Map()
    matchMedia('(max-width: 700px)').addEventListener('change', () => this.draw())
    this.draw()
  }

  draw() {
    this.layout = matchMedia('(max-width: 700px)').matches ? narrow : wide
    const [width, height] = this.layout.size
    this.ways = s('g', {class: 'ways'})
    this.flights = s('g', {class: 'flights', 'aria-hidden': 'true'})
    this.nodes = s('g')
    this.boxes.clear()
    this.lanes.clear()
    this.svg = s('svg', {viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': t('components')}, this.ways, this.nodes, this.flights)
    for (const name of always) this.box(name, ...this.layout[name])
    this.clients.slice(0, this.layout.clients.length).forEach((name, i) => this.box(name, ...this.layout.clients[i], ...this.layout.client, 'client'))
    if (!this.clients.length) this.client('kubectl')
    for (const name of this.chips.keys()) this.chip(name)
    this.parent.replaceChildren(this.svg)
    this.svg.after(Object.assign(document.createElement('p'), {className: 'legend', textContent: t('legend')}))
    for (const [name, health] of this.health) this.tell(name, health)
  }

  box(name, x, y, width, height, kind = '') {
    const title = s('title', {}, name)
    const badge = s('text', {class: 'badge', x: x + width / 2 - 8, y: y - height / 2 - 6, 'text-anchor': 'end'})
    const high = height > 120
    const label = s('text', {class: 'name', x, y: high ? y - height / 2 + 34 : y + 8, 'text-anchor': 'middle'}, name)
    const did = s('text', {class: 'did', x, y: high ? y - height / 2 + 60 : y + 23, 'text-anchor': 'middle'})
    const element = s('g', {
      class: `box ${kind}`, tabindex: 0, role: 'button', 'aria-label': name, 'data-component': name,
      onclick: () => this.chosen(name), onkeydown: event => { if (event.key === 'Enter') this.chosen(name) },
    }, title, s('rect', {x: x - width / 2, y: y - height / 2, width, height, rx: 12}), label, did, badge)
    this.nodes.append(element)
    const box = {name, x, y, width, height, element, label, did, badge, title}
    this.boxes.set(name, box)
    const api = this.boxes.get('apiserver')
    if (api && box !== api && name !== 'cri') this.way(box, api)
    if (name === 'cri') this.way(this.boxes.get('kubelet'), box)
    return box
  }

  way(a, b) {
    const [x1, y1, x2, y2] = this.between(a, b)
    this.ways.append(s('line', {x1, y1, x2, y2}))
  }

  /** client gives a program that is no component its place; the oldest goes when there is none. */
  client(name) {
    const known = this.boxes.get(name)
    if (known) return known
    const places = this.layout.clients
    if (this.clients.length >= places.length) {
      const last = this.clients.pop() // the first, kubectl mostly, stays
      this.boxes.get(last)?.element.remove()
      this.boxes.delete(last)
    }
    this.clients.push(name)
    return this.box(name, ...places[this.clients.length - 1], ...this.layout.client, 'client')
  }

  /** chip shows a controller inside the controller manager, once it has done something. */
  chip(name) {
    const {x, y, width, height} = this.boxes.get('controller-manager')
    if (!this.chips.has(name) && this.chips.size >= this.layout.chips) {
      const oldest = this.chips.keys().next().value
      this.chips.get(oldest)?.remove()
      this.chips.delete(oldest)
    }
    const place = [...this.chips.keys()].indexOf(name)
    const i = place >= 0 ? place : this.chips.size
    const columns = this.layout.gutter ? 1 : 2
    const column = i % columns, row = Math.floor(i / columns)
    const chip = s('text', {class: 'chip', x: x - width / 2 + 14 + column * (width / 2 - 4), y: y - height / 2 + 98 + row * this.layout.chip}, short(name, this.layout.gutter ? 22 : 14))
    this.chips.get(name)?.remove()
    this.chips.set(name, chip)
    this.nodes.append(chip)
    return chip
  }

  /** play puts an arrow into the queue. */
  play(arrow) {
    if (document.hidden) return
    const steps = stepsOf(arrow)
    if (!steps.length) return
    this.queue.push(...steps)
    if (this.queue.length > maxQueue) this.queue.splice(0, this.queue.length - maxQueue)
    if (!this.timer) this.turn()
  }

  clear() { this.queue.length = 0 }

  turn() {
    const step = this.queue.shift()
    if (!step) return void (this.timer = undefined)
    this.show(step)
    const pause = Math.max(shortest, Math.min(longest, 3000 / (this.queue.length + 1))) * this.pace
    this.timer = setTimeout(() => this.turn(), pause)
  }

  show(step) {
    const from = this.boxes.get(step.from) ?? this.client(step.from)
    this.write(from, step.says)
    if (step.loop) this.light(this.chip(step.loop), 'lit')
    this.light(from.element, step.bad ? 'failed' : 'acting')
    for (const name of step.to) {
      const to = this.boxes.get(name)
      if (to) this.fly(from, to, step)
    }
    if (!step.to.length) this.ring(from)
  }

  /** write says in a box what it did last, below its name. */
  write(box, text) {
    box.did.textContent = short(text, box.width / 10)
    if (box.height <= 120) box.label.setAttribute('y', box.y - 5)
  }

  light(element, name) {
    element.classList.add(name)
    clearTimeout(element.timer)
    element.timer = setTimeout(() => element.classList.remove('acting', 'failed', 'lit'), flight * Math.min(this.pace, 3))
  }

  fly(from, to, step) {
    const [x1, y1, x2, y2] = this.between(from, to)
    const time = flight * Math.min(this.pace, 3)
    const line = s('line', {class: `flight ${step.kind}`, x1, y1, x2, y2})
    const tip = s('path', {class: `tip ${step.kind}`, d: 'M-11,-7 L5,0 L-11,7 Z'})
    this.flights.append(line, tip)
    const turn = Math.atan2(y2 - y1, x2 - x1)
    const at = (x, y) => `translate(${x}px, ${y}px) rotate(${turn}rad)`
    tip.animate(calm() ? [{transform: at(x2, y2)}, {transform: at(x2, y2)}] : [{transform: at(x1, y1)}, {transform: at(x2, y2)}],
      {duration: time, easing: 'ease-in-out', fill: 'forwards'})
    line.animate([{opacity: 1}, {opacity: 1, offset: 0.6}, {opacity: 0}], {duration: time * 1.6, fill: 'forwards'}).finished.then(() => {
      line.remove()
      tip.remove()
    })
    // Sideways there is no room for it, and the box says it too.
    if (step.label && Math.abs(y2 - y1) > Math.abs(x2 - x1)) this.label(`${from.name}>${to.name}`, step.label, (x1 + x2) / 2, (y1 + y2) / 2 - 10, time)
  }

  /** label writes on a way what goes there; the newest takes the place of the one before. */
  label(way, text, x, y, time) {
    this.lanes.get(way)?.remove()
    const label = s('text', {class: 'on-way', x, y, 'text-anchor': 'middle'}, short(text, 30))
    this.lanes.set(way, label)
    this.flights.append(label)
    label.animate([{opacity: 1}, {opacity: 1, offset: 0.7}, {opacity: 0}], {duration: time * 2.4, fill: 'forwards'}).finished.then(() => label.remove())
  }

  /** between is the way from the edge of one box to that of the other; on a phone, in the gutter. */
  between(a, b) {
    const {gutter} = this.layout
    const beside = box => gutter && box.y > this.layout.apiserver[1] + 10
    const end = (box, other) => {
      if (box.name === 'apiserver' && beside(other)) return [gutter, box.y + box.height / 2 + 5]
      if (other.name === 'apiserver' && beside(box)) return [box.x + Math.sign(gutter - box.x) * (box.width / 2 + 4), box.y]
      return edge(box, other)
    }
    return [...end(a, b), ...end(b, a)]
  }

  ring(box) {
    const ring = s('rect', {class: 'ring', x: box.x - box.width / 2 - 4, y: box.y - box.height / 2 - 4, width: box.width + 8, height: box.height + 8, rx: 15})
    this.flights.append(ring)
    ring.animate([{opacity: 1}, {opacity: 0}], {duration: flight * 1.4, fill: 'forwards'}).finished.then(() => ring.remove())
  }

  /** tell shows how a component is. */
  tell(name, health) {
    this.health.set(name, health)
    const box = this.boxes.get(name)
    if (!box) return
    box.element.classList.toggle('sick', !health.healthy)
    box.title.textContent = `${name}: ${health.healthy ? t('healthy') : t('unhealthy', {why: health.message})}`
  }

  /** hold shows which components are held, and how much waits. */
  hold(gates) {
    for (const box of this.boxes.values()) {
      const held = gates.filter(gate => gate.component === box.name)
      box.element.classList.toggle('held', held.length > 0)
      box.badge.textContent = held.length ? `▮▮ ${held.reduce((sum, gate) => sum + gate.held, 0)}` : ''
    }
  }
}

/** stepsOf says what an arrow looks like: who acts, what flies where. */
function stepsOf(arrow) {
  if (arrow.kind === 'delivery') {
    if (!arrow.of || isNoise(arrow.of)) return []
    const to = new Set(arrow.to.map(told => placeOf(told.component)))
    return [{from: 'apiserver', to: [...to], kind: 'delivery', says: `told: ${arrow.of.object.split(' ')[0]}`}]
  }
  if (isNoise(arrow)) return []
  const from = placeOf(programOf(arrow))
  const loop = arrow.source?.loop && arrow.from.includes('/') ? arrow.source.loop : undefined
  const says = `${arrow.what} ${(arrow.object ?? '').split(' ')[0]}`
  if (arrow.kind === 'effect') {
    return [{from, to: arrow.what.startsWith('CRI ') ? ['cri'] : [], kind: 'effect', says: arrow.what, label: arrow.what, loop, bad: arrow.error}]
  }
  const steps = []
  if (from !== 'apiserver') steps.push({from, to: ['apiserver'], kind: 'request', says, label: says, loop, bad: arrow.kind === 'refused'})
  if (arrow.kind === 'write') steps.push({from: 'apiserver', to: ['etcd'], kind: 'request', says: `${arrow.what} @${arrow.revision}`})
  return steps
}

function edge(from, to) {
  const dx = to.x - from.x, dy = to.y - from.y
  const part = Math.min(dx ? (from.width / 2 + 6) / Math.abs(dx) : Infinity, dy ? (from.height / 2 + 6) / Math.abs(dy) : Infinity)
  return [from.x + dx * part, from.y + dy * part]
}

const short = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text)
