// What the page knows of what happened: the last arrows, and how they hang together. An arrow
// that names its cause by revision belongs to the group of that cause; one that names none
// begins a group of its own.

const maxGroups = 120

/** Arrows keeps groups of arrows, the newest group last. changed and played are called by it. */
export class Arrows {
  constructor({changed, played}) {
    Object.assign(this, {changed, played})
    this.groups = []
    this.byRevision = new Map() // the write of a revision
    this.byObject = new Map() // the last write of an object
    this.waiting = [] // while paused
    this.paused = false
    this.missed = 0
  }

  /** take adds an arrow as it comes from the stream. */
  take(arrow) {
    if (this.paused) {
      this.waiting.push(arrow)
      return this.changed()
    }
    if (arrow.kind === 'alive') return
    if (arrow.kind === 'missed') {
      this.missed += arrow.missed ?? 0
      return this.changed()
    }
    if (arrow.kind === 'delivery') arrow.of = this.byRevision.get(arrow.revision)
    else this.add(arrow)
    this.played(arrow)
    this.changed()
  }

  add(arrow) {
    const parent = this.parentOf(arrow)
    arrow.depth = parent ? parent.depth + 1 : 0
    arrow.group = parent ? parent.group : this.begin()
    arrow.group.arrows.push(arrow)
    arrow.group.changed = true
    if (arrow.revision) {
      this.byRevision.set(arrow.revision, arrow)
      this.byObject.set(arrow.object, arrow)
    }
  }

  begin() {
    const group = {arrows: [], changed: true}
    this.groups.push(group)
    if (this.groups.length > maxGroups) this.forget(this.groups.shift())
    return group
  }

  forget(group) {
    group.element?.remove()
    for (const arrow of group.arrows) {
      this.byRevision.delete(arrow.revision)
      if (this.byObject.get(arrow.object) === arrow) this.byObject.delete(arrow.object)
    }
  }

  /** parentOf is the newest of the causes that are known; of an effect without, its object. */
  parentOf(arrow) {
    let newest
    for (const cause of arrow.causes ?? []) {
      const revision = Number(cause.split('@')[1])
      const write = this.byRevision.get(revision)
      if (write && (!newest || revision > newest.revision)) newest = write
    }
    return newest ?? (arrow.kind === 'effect' ? this.byObject.get(arrow.object) : undefined)
  }

  pause(paused) {
    this.paused = paused
    if (!paused) for (const arrow of this.waiting.splice(0)) this.take(arrow)
    this.changed()
  }
}

/** isNoise tells what goes on all the time and says nothing about what somebody did. */
export function isNoise(arrow) {
  const [kind] = (arrow.object ?? '').split(' ')
  if (kind === 'Lease' || kind === 'Event' || kind === 'leases' || kind === 'events') return true
  if (kind === 'Node' && arrow.what.endsWith('status')) return true
  return programOf(arrow) === 'apiserver' && arrow.depth === 0
}

/** programOf is the component of an arrow, without the controller in it. */
export const programOf = arrow => arrow.from.split('/')[0].replace(/ \(says .*/, '')

/** placeOf is where a component stands: all kubelets are one. */
export const placeOf = name => name.replace(/^(kubelet|cri)-.*/, '$1')

/** milliseconds of Go's durations, which are nanoseconds. */
export function duration(nanoseconds) {
  const ms = (nanoseconds ?? 0) / 1e6
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`
  return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`
}
