// How elements are made: never from text that could be markup, so that no name of an
// object can become part of the page.

const svgSpace = 'http://www.w3.org/2000/svg'

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value)
  }
  element.append(...children.flat(Infinity).filter(child => child !== undefined && child !== null && child !== false))
  return element
}

/** h('button', {class: 'x', onclick: f}, 'text', child…) makes an element. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children)

/** s is h for SVG. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(svgSpace, tag), attributes, children)

export const byID = id => document.getElementById(id)

/** calm is true for who does not want things to move. */
export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches
