// One arrow in full: what it changed and, beside it, the line of code that did it.

import {h, byID} from './dom.js'
import {t} from './strings.js'
import {get} from './api.js'
import {duration} from './arrows.js'

/** openArrow asks for all that is recorded of an arrow. */
export async function openArrow(arrow, actions) {
  const dialog = open(h('p', {}, t('loading')))
  try {
    show(dialog, await get('entry', {id: arrow.id}), actions)
  } catch (error) {
    dialog.replaceChildren(head(arrow.object ?? arrow.what), h('p', {class: 'error'}, error.message))
  }
}

/** openNode shows a line of a story, which comes with everything. */
export const openNode = (node, actions) => show(open(), {node}, actions)

function open(...children) {
  const dialog = byID('detail')
  dialog.replaceChildren(...children)
  if (!dialog.open) dialog.showModal()
  dialog.scrollTop = 0
  return dialog
}

function head(...title) {
  return h('header', {}, h('h2', {id: 'detail-title'}, ...title),
    h('button', {class: 'close', 'aria-label': t('close'), title: t('close'), onclick: () => byID('detail').close()}, '✕'))
}

async function show(dialog, {node, fields, chain}, actions) {
  const code = h('div', {class: 'code'}, h('p', {}, t('loading')))
  dialog.replaceChildren(
    head(h('span', {class: 'who'}, node.component), ' ', node.what, ' ', h('b', {}, node.object ?? ''), node.revision ? h('small', {}, ` @${node.revision}`) : ''),
    h('p', {class: 'facts'}, facts(node)),
    h('div', {class: 'pair'},
      h('section', {'aria-label': t('changed')}, changes(node, fields)),
      h('section', {'aria-label': t('source')}, h('h3', {}, t('source')), code)),
    h('div', {class: 'rest'}, because(node, chain), caused(node), told(node), admitted(node)),
    h('footer', {}, links(node, actions)))
  code.replaceChildren(...await source(node))
}

function facts(node) {
  return [
    node.code ? h('span', {class: node.code >= 400 ? 'bad' : 'good'}, `${node.code}`) : undefined,
    h('span', {}, `${new Date(node.time).toLocaleTimeString()} · ${t('took')} ${duration(node.took)}`),
    node.user && h('span', {}, `${t('user')}: ${node.user}`),
    node.allowed && h('span', {}, `${t('allowed')}: ${node.allowed}`),
    node.etcdKey && h('code', {}, node.etcdKey),
  ]
}

function changes(node, fields) {
  const lines = node.diff ?? []
  let title = t('changed'), rows = lines.map(change)
  if (node.revision === undefined && !node.code) {
    title = t('did')
    if (node.detail) rows = [h('li', {}, node.detail), ...rows]
  } else if (fields) {
    title = t('made')
    rows = fields.map(line => field(line))
  }
  if (node.error) rows.unshift(h('li', {class: 'error'}, node.error))
  if (!rows.length) rows = [h('li', {}, node.what.startsWith('delete') || node.what.includes('gone') ? t('removed') : t('noChange'))]
  return [h('h3', {}, title), h('ul', {class: 'diff'}, rows)]
}

/** change shows a line `path: old → new`, or `+ rule`. */
function change(line) {
  const rule = /^([+-]) (.*)$/.exec(line)
  if (rule) return h('li', {}, h(rule[1] === '+' ? 'ins' : 'del', {}, rule[2]))
  const cut = line.indexOf(': ')
  const arrow = line.indexOf(' → ', cut)
  if (cut < 0 || arrow < 0) return h('li', {}, line)
  const before = line.slice(cut + 2, arrow), after = line.slice(arrow + 3)
  return h('li', {}, h('span', {class: 'path'}, line.slice(0, cut)), ' ',
    before !== 'none' && h('del', {}, before), before !== 'none' && ' ', after !== 'none' && h('ins', {}, after))
}

function field(line) {
  const cut = line.indexOf(': ')
  return h('li', {}, h('span', {class: 'path'}, line.slice(0, cut)), ' ', h('ins', {}, line.slice(cut + 2)))
}

async function source(node) {
  const {file, line, function: name} = node.source ?? {}
  if (!file) return [h('p', {}, t('noSource', {name: node.component}))]
  try {
    const code = await get('source', {file, line})
    const rows = code.lines.map((text, i) => {
      const number = code.first + i
      return h('div', {class: number === code.marked ? 'line marked' : 'line', 'aria-current': number === code.marked ? 'location' : undefined},
        h('span', {class: 'number'}, `${number}`), h('code', {}, ...colour(text)))
    })
    const box = h('div', {class: 'listing', tabindex: 0}, rows)
    setTimeout(() => {
      const marked = box.querySelector('.marked')
      if (marked) box.scrollTop = marked.offsetTop - box.clientHeight / 3
    })
    return [h('p', {class: 'place'}, h('b', {}, name), ' ', h('code', {}, `${file}:${line}`)), box]
  } catch (error) {
    return [h('p', {class: 'place'}, h('b', {}, name), ' ', h('code', {}, `${file}:${line}`)), h('p', {class: 'error'}, error.message)]
  }
}

const words = /(\/\/.*$)|("(?:[^"\\]|\\.)*"|`[^`]*`)|\b(func|return|if|else|for|range|switch|case|default|var|const|type|struct|go|defer|select|continue|break|nil|true|false|map|chan|interface)\b/g

/** colour marks comments, strings and keywords of a line of Go. */
function colour(text) {
  const parts = []
  let last = 0
  for (const match of text.matchAll(words)) {
    parts.push(text.slice(last, match.index), h('span', {class: match[1] ? 'comment' : match[2] ? 'string' : 'keyword'}, match[0]))
    last = match.index + match[0].length
  }
  return [...parts, text.slice(last)]
}

const says = node => `${node.component}: ${node.what} ${node.object ?? ''}${node.revision ? ` @${node.revision}` : ''}`

function because(node, chain) {
  const causes = node.causes ?? []
  if (!chain?.length && !causes.length) return undefined
  return h('section', {}, h('h3', {}, t('chain'), node.link && h('small', {}, ` — ${t(node.link)}`)),
    h('ol', {class: 'chain'}, (chain ?? []).map(n => h('li', {}, says(n)))),
    causes.length > 0 && h('p', {class: 'causes'}, causes.map(cause => h('code', {}, cause))))
}

function caused(node) {
  if (!node.children?.length) return undefined
  return h('section', {}, h('h3', {}, t('caused')), h('ul', {}, node.children.map(n => h('li', {}, says(n)))))
}

function told(node) {
  if (!node.deliveries?.length) return undefined
  return h('section', {}, h('h3', {}, t('told')),
    h('ul', {class: 'told'}, node.deliveries.map(d => h('li', {}, h('b', {}, d.component), ` ${d.resource}, ${t('after', {t: duration(d.after)})}`))))
}

function admitted(node) {
  const steps = node.admissionSteps ?? (node.admission ?? []).map(plugin => ({plugin}))
  if (!steps.length) return undefined
  return h('section', {}, h('h3', {}, t('admission')), h('ul', {}, steps.map(step =>
    h('li', {class: step.refused ? 'error' : step.changed ? 'changed' : ''}, step.plugin, step.refused ? ` — ${t('refused')}` : '',
      step.diff?.length ? h('ul', {class: 'diff'}, step.diff.map(change)) : undefined))))
}

/** links lead from an arrow to the story of its object, and to why it is as it is. */
function links(node, actions) {
  const [kind, key] = (node.object ?? '').split(' ')
  if (!key || kind !== kind.replace(/^[a-z]/, '')) return []
  const [namespace, name] = key.includes('/') ? key.split('/') : ['', key]
  const object = {kind, namespace, name, group: node.group}
  return [h('button', {onclick: () => { byID('detail').close(); actions.story(object) }}, t('storyOf', {name: `${kind} ${name}`}))]
}
