// What the page asks its server for. Nothing else is reached from here: the server
// forbids it (Content-Security-Policy).

async function ask(method, path, parameters) {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters ?? {})) if (value) query.set(name, value)
  // The header is what no page of another site can send.
  const response = await fetch(`/api/${path}?${query}`, {method, headers: {'Hyperkube-Page': '1'}})
  const text = await response.text()
  if (!response.ok) throw new Error(text.trim() || response.statusText)
  return text ? JSON.parse(text) : null
}

export const get = (path, parameters) => ask('GET', path, parameters)
export const post = (path, parameters) => ask('POST', path, parameters)

const retryPause = 1000

/**
 * follow calls take with each arrow, for ever. A stream that ends is opened again where it
 * was; connected is told of both.
 */
export async function follow(take, connected) {
  let since = ''
  for (;;) {
    try {
      const response = await fetch(`/api/stream?since=${since}`)
      if (response.status === 401) return connected(false, 'stranger')
      if (!response.ok) throw new Error(await response.text())
      connected(true)
      for await (const line of lines(response.body)) {
        const arrow = JSON.parse(line)
        since = arrow.next ?? since
        take(arrow)
      }
    } catch (error) {
      console.debug('the stream ended:', error.message)
    }
    connected(false)
    await new Promise(resolve => setTimeout(resolve, retryPause))
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const {value, done} = await reader.read()
    if (done) return
    const parts = (rest + value).split('\n')
    rest = parts.pop()
    yield* parts
  }
}
