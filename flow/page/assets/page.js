// The live page: this file puts its parts together.
//
//   stream ──► Arrows ──► Timeline   the list, grouped by cause
//                 └─────► Diagram    the picture
//   gates  ──► Gates ───► Diagram    what is held
//
// Read next: arrows.js, then the part you came for.

import {h, byID} from './dom.js'
import {t, speak, language} from './strings.js'
import {get, follow} from './api.js'
import {Arrows} from './arrows.js'
import {Diagram} from './diagram.js'
import {Timeline} from './timeline.js'
import {Gates} from './gates.js'
import {Objects} from './objects.js'
import {Story} from './story.js'
import {openArrow, openNode} from './detail.js'

const views = ['components', 'objects', 'story']
const actions = {story: object => { choose('story'); story.show(object) }}

speak(localStorage.getItem('language'))

let live = false // the past, which comes first, is listed but not played
const arrows = new Arrows({
  changed: () => frame(),
  played: arrow => {
    if (arrow.source?.loop && arrow.from?.startsWith('controller-manager/')) gates.saw(arrow.source.loop)
    if (!live) return
    diagram.play(arrow)
    objects.soon()
    story.soon()
  },
})
const timeline = new Timeline(arrows, arrow => openArrow(arrow, actions))
const diagram = new Diagram(byID('diagram'), name => timeline.filter(name))
const objects = new Objects(object => actions.story(object))
const story = new Story(node => openNode(node, actions))
const gates = new Gates(closed => diagram.hold(closed))

/** frame draws the list at most once a frame, however many arrows come. */
let asked = false
function frame() {
  if (asked) return
  asked = true
  requestAnimationFrame(() => {
    asked = false
    timeline.show()
    showPause()
    if (arrows.missed) notice(t('missed', {n: arrows.missed}))
  })
}

function notice(text) {
  byID('notice').textContent = text
  byID('notice').hidden = !text
}

function choose(name) {
  for (const view of views) {
    const chosen = view === name
    byID(`view-${view}`).hidden = !chosen
    byID(`tab-${view}`).setAttribute('aria-selected', chosen)
    byID(`tab-${view}`).tabIndex = chosen ? 0 : -1
  }
  if (name === 'objects') objects.show()
  if (name === 'story') story.show(story.object)
}

function showPause() {
  const button = byID('pause')
  button.setAttribute('aria-pressed', arrows.paused)
  const n = arrows.waiting.filter(arrow => arrow.kind !== 'alive').length
  button.textContent = arrows.paused ? `▶ ${n ? t('resumeNew', {n}) : t('resume')}` : `▮▮ ${t('pause')}`
}

function pause() {
  arrows.pause(!arrows.paused)
  if (arrows.paused) diagram.clear()
  showPause()
}

function noise() {
  timeline.noise = !timeline.noise
  byID('noise').setAttribute('aria-pressed', timeline.noise)
  timeline.list.replaceChildren()
  timeline.show(true)
}

function setLanguage(chosen) {
  localStorage.setItem('language', chosen)
  speak(chosen)
  byID('language').value = language
  showPause()
  timeline.list.replaceChildren()
  timeline.show(true)
  diagram.draw()
  gates.show()
  choose(views.find(view => !byID(`view-${view}`).hidden))
}

function toggle(name, button) {
  const on = document.documentElement.classList.toggle(name)
  localStorage.setItem(name, on ? '1' : '')
  byID(button).setAttribute('aria-pressed', on)
}

/** theme goes from what the system says to its opposite and back. */
function theme() {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches
  const root = document.documentElement
  root.dataset.theme = root.dataset.theme ? '' : dark ? 'light' : 'dark'
  localStorage.setItem('theme', root.dataset.theme)
}

function help() {
  const keys = [['1 2 3', 'keyViews'], ['Space', 'keyPause'], ['↑ ↓  j k', 'keyMove'], ['Enter', 'keyOpen'], ['Esc', 'keyClose'],
    ['s', 'keyStep'], ['o', 'keyOne'], ['c', 'keyContinue'], ['a', 'keyNoise'], ['+', 'keyLarge'], ['d', 'keyTheme'], ['l', 'keyLanguage'], ['?', 'keyHelp']]
  byID('help').replaceChildren(h('header', {}, h('h2', {id: 'help-title'}, t('keys')), h('button', {class: 'close', 'aria-label': t('close'), onclick: () => byID('help').close()}, '✕')),
    h('dl', {}, keys.map(([key, text]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, t(text))])))
  byID('help').showModal()
}

const keys = {
  1: () => choose('components'), 2: () => choose('objects'), 3: () => choose('story'),
  ' ': pause, a: noise, '+': () => toggle('large', 'large'), d: theme, l: () => setLanguage(language === 'en' ? 'ja' : 'en'), '?': help,
  s: () => gates.act('', {component: 'scheduler'}), o: () => gates.act('one', gates.first()), c: () => gates.act('continue', gates.first()),
  j: () => timeline.go(1), k: () => timeline.go(-1), ArrowDown: () => timeline.go(1), ArrowUp: () => timeline.go(-1),
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
  const at = event.target
  if (at.matches('input, select, textarea') || document.querySelector('dialog[open]')) return
  if (event.key === ' ' && at.matches('button, [role=button], summary')) return // there it presses
  if (at.matches('[role=tab]') && (event.key === 'ArrowLeft' || event.key === 'ArrowRight')) {
    const next = (views.indexOf(at.id.slice(4)) + (event.key === 'ArrowRight' ? 1 : views.length - 1)) % views.length
    choose(views[next])
    return byID(`tab-${views[next]}`).focus()
  }
  if (!Object.hasOwn(keys, event.key)) return
  if (event.key.startsWith('Arrow') && at !== document.body) return
  event.preventDefault()
  keys[event.key]()
})

for (const view of views) byID(`tab-${view}`).addEventListener('click', () => choose(view))
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close() }) // beside it
}
byID('pause').addEventListener('click', pause)
byID('noise').addEventListener('click', noise)
byID('large').addEventListener('click', () => toggle('large', 'large'))
byID('theme').addEventListener('click', theme)
byID('help-button').addEventListener('click', help)
byID('pace').addEventListener('change', event => { diagram.pace = Number(event.target.value); event.target.blur() })
byID('language').addEventListener('change', event => setLanguage(event.target.value))

document.documentElement.dataset.theme = localStorage.getItem('theme') ?? ''
if (localStorage.getItem('large')) toggle('large', 'large')
byID('language').value = language
choose('components')
showPause()

get('cluster').then(cluster => {
  byID('cluster').textContent = cluster.name === 'hyperkube' ? '' : cluster.name
  document.title = `hyperkube ${cluster.name}`
  story.why = cluster.why
})

/** components asks how everybody is; the picture shows who is not well. */
async function components() {
  if (document.hidden) return
  for (const component of await get('components')) diagram.tell(component.name, component)
}
setInterval(() => components().catch(() => {}), 10_000)
components().catch(() => {})

follow(arrow => {
  arrows.take(arrow)
  if (arrow.next) live = true // all that was recorded before has come
}, (good, why) => notice(good ? '' : t(why ?? 'lost')))
